"""Runs one row: for each proxy its own hosts and its own caller, all at the same time."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from sidebyside.measure import tail, wait_until_listening
from sidebyside.peers import HOST, PeerError
from sidebyside.processes import Processes, free_port

from .figures import Attempt, Call, Figures, figures
from .profiles import Place, Profile
from .rows import Row, Times

#: How long proxies may take until they answer, in seconds.
START_LIMIT = 20
#: A caller gives up after so many seconds.
PATIENCE = 3
NANOSECONDS = 1e9


class MeasureError(Exception):
    """One measurement failed; the text says why."""


@dataclass
class Side:
    """One proxy of a row with what stands around it."""

    profile: Profile
    place: Place
    proxy: subprocess.Popen[str] | None = None
    hosts: list[subprocess.Popen[str]] = field(default_factory=list)
    caller: subprocess.Popen[str] | None = None
    failure: str | None = None


@dataclass
class Stage:
    """What all rows share."""

    processes: Processes
    #: Where the programs of this folder have been built.
    tools: Path
    directory: Path
    proxy_cpu: int
    load_cpu: int
    #: Before each command.
    prefix: list[str]
    runs: int = 0

    def start(self, command: list[str], cpu: int, log: Path, piped: bool = False) -> subprocess.Popen[str]:
        return self.processes.start([*self.prefix, *command], cpu, log=log, piped=piped)

    def perform(self, row: Row, times: Times, profiles: list[Profile], seed: int) -> dict[str, Figures | str]:
        """The figures of each proxy, or why there are none."""
        sides = [self.side(row, profile) for profile in profiles]
        try:
            self.prepare(row, times, sides, seed)
            return {side.profile.name: side.failure or self.read(row, times, side) for side in sides}
        finally:
            for side in sides:
                for process in [side.caller, side.proxy, *side.hosts]:
                    if process:
                        self.processes.end(process, patience=0.5)

    def side(self, row: Row, profile: Profile) -> Side:
        self.runs += 1
        directory = self.directory / f"{self.runs}-{row.name}-{profile.name}"
        directory.mkdir()
        return Side(profile, Place(directory, free_port(), free_port(), [free_port() for _ in range(row.hosts)], row.steps > 0))

    def prepare(self, row: Row, times: Times, sides: list[Side], seed: int) -> None:
        # The hosts must know when it begins, and the proxies must find them.
        begin = time.monotonic_ns() + 3 * int(NANOSECONDS)
        for side in sides:
            side.hosts = [self.host(row, times, side, index, begin, seed) for index in range(row.hosts)]
        deadline = time.monotonic() + START_LIMIT
        for side in sides:
            for index, port in enumerate(side.place.hosts):
                wait_until_listening(port, deadline, side.hosts[index])
            try:
                side.proxy = self.start(side.profile.command(side.place), self.proxy_cpu, side.place.directory / "log")
            except (PeerError, subprocess.TimeoutExpired) as error:
                side.failure = str(error)
        for side in sides:
            if side.proxy:
                wait_until_listening(side.place.port, deadline, side.proxy)
                side.failure = self.check(side)
        if time.monotonic_ns() > begin - 0.3 * NANOSECONDS:
            raise MeasureError("the proxies took more than two seconds to start: the machine is too busy")
        rates = [f"{at:g}:{rate:g}" for at, rate in row.rates(times)]
        for side in sides:
            if not side.failure:
                command = [self.tools / "caller", side.place.port, begin, 0 if row.steps else seed, times.over, PATIENCE, *rates]
                side.caller = self.start([*map(str, command)], self.load_cpu, side.place.directory / "caller.log", piped=True)
        self.kill(row, times, sides, begin, seed)

    def host(self, row: Row, times: Times, side: Side, index: int, begin: int, seed: int) -> subprocess.Popen[str]:
        spells = [spell for spell in row.spells(times) if spell.host == index and spell.kind]
        command = [
            self.tools / "host", side.place.hosts[index], begin, side.place.directory / f"host{index}", seed * 100 + index, row.service,
            *(f"{spell.kind}:{spell.begin:g}:{spell.end:g}" for spell in spells),
        ]  # fmt: skip
        return self.start([*map(str, command)], self.load_cpu, side.place.directory / "hosts.log")

    def check(self, side: Side) -> str | None:
        """One request, which nobody counts."""
        request = urllib.request.Request(f"http://127.0.0.1:{side.place.port}/", headers={"Host": HOST})
        try:
            with urllib.request.urlopen(request, timeout=2) as response:
                if response.status == 200:
                    return None
                reason = f"status {response.status}"
        except (urllib.error.URLError, OSError) as error:
            reason = str(error)
        return f"the first request failed ({reason}): {tail(side.place.directory / 'log')}"

    def kill(self, row: Row, times: Times, sides: list[Side], begin: int, seed: int) -> None:
        """Whoever is to be gone for a time."""
        for spell in row.spells(times):
            if spell.kind:
                continue
            sleep_until(begin + spell.begin * NANOSECONDS)
            for side in sides:
                side.hosts[spell.host].kill()
            for side in sides:
                self.processes.end(side.hosts[spell.host])
            sleep_until(begin + spell.end * NANOSECONDS)
            for side in sides:
                side.hosts[spell.host] = self.host(row, times, side, spell.host, begin, seed)

    def read(self, row: Row, times: Times, side: Side) -> Figures | str:
        output, _ = side.caller.communicate(timeout=times.over + PATIENCE + 30)
        if side.caller.returncode != 0:
            return f"the caller ended with {side.caller.returncode}: {tail(side.place.directory / 'caller.log')}"
        if side.proxy.poll() is not None:
            return f"ended with {side.proxy.returncode}: {tail(side.place.directory / 'log')}"
        calls = [Call(int(due) / NANOSECONDS, int(took) / 1e6, end) for due, took, end in map(str.split, output.splitlines())]
        return figures(row, times, calls, self.attempts(side), side.profile.retries(side.place))

    def attempts(self, side: Side) -> list[Attempt]:
        found = []
        for index in range(len(side.hosts)):
            for line in (side.place.directory / f"host{index}").read_text().splitlines():
                arrived, answered, status = map(int, line.split())
                found.append(Attempt(index, arrived / NANOSECONDS, answered / NANOSECONDS if answered >= 0 else None, status))
        return found


def sleep_until(nanoseconds: float) -> None:
    time.sleep(max(0.0, (nanoseconds - time.monotonic_ns()) / NANOSECONDS))


def realtime_prefix() -> list[str]:
    """What makes other work on the machine wait for us, if we may."""
    command = ["chrt", "--fifo", "10"]
    if not shutil.which("chrt"):
        return []
    return command if subprocess.run([*command, "true"], capture_output=True).returncode == 0 else []


def shared_memory() -> str | None:
    """A directory without a disk behind it, on which a host's log could wait."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


__all__ = ["MeasureError", "Stage", "realtime_prefix", "shared_memory"]
