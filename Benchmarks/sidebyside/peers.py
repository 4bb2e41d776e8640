"""What the proxies of the comparison have in common: where one runs, what it is told, how it is started."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .certificates import Certificates
from .legs import H1, Leg, Role

REPOSITORY = Path(__file__).resolve().parents[2]
HOST = "origin.bench.local"


def descriptor_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


class PeerError(Exception):
    """A proxy could not be configured; the text says why."""


@dataclass
class Place:
    """Where one start of a proxy happens, and what it speaks there."""

    directory: Path
    port: int
    #: The port behind it: the origin's, or the other sidecar's.
    origin: int
    floor: Path
    idle_connections: int
    certificates: Certificates
    downstream: Leg = H1
    upstream: Leg = H1
    role: Role = Role.ALONE
    grpc: bool = False

    def write(self, name: str, text: str) -> str:
        path = self.directory / name
        path.write_text(text)
        return str(path)


@dataclass
class Peer:
    name: str
    #: The command that runs the proxy in the foreground, after writing its configuration.
    command: Callable[[Place], list[str]]
    version: str = ""
    #: Why it cannot take part, with what to do about it.
    missing: str | None = None
    #: Whether it can stand between these two legs.
    speaks: Callable[[Leg, Leg], bool] = lambda downstream, upstream: True
    #: Set when the configuration cannot be told which ports to use.
    fixed_port: int | None = None
    #: A proxy under test, as against a peer.
    tested: bool = False


def absent(name: str, reason: str) -> Peer:
    return Peer(name, lambda _: [], missing=reason)


def system_binary(name: str) -> str | None:
    """Debian keeps servers where the PATH of most users does not look."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def first_line(command: list[str], pattern: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    found = re.search(pattern, done.stdout + done.stderr)
    return found.group(1) if found else "unknown version"


def plain_http1(downstream: Leg, upstream: Leg) -> bool:
    return downstream == upstream == H1
