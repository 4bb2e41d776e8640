"""The load generators: our own for HTTP/1.1, with and without TLS; h2load for HTTP/2. And one request by curl, checked byte by byte."""

from __future__ import annotations

import json
import re
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .certificates import Certificates
from .peers import HOST
from .scenarios import Scenario

#: A gRPC message of 123 bytes behind its head: what h2origin answers with, and what it is sent.
GRPC_MESSAGE = struct.pack(">BI", 0, 123) + bytes(ord("a") + i % 26 for i in range(123))


class MeasureError(Exception):
    """One measurement failed; the text says why. The others go on."""


@dataclass(frozen=True)
class Outcome:
    completed: int
    rate: float
    seconds: float
    #: Microseconds; only our own generator says.
    p50: float = 0
    p99: float = 0
    handshakes: int = 0
    resumed: int = 0


@dataclass(frozen=True)
class Generator:
    """Builds the command for a scenario, and reads what it prints."""

    tools: Path
    certificates: Certificates

    def command(self, scenario: Scenario, port: int, seconds: float | None = None, requests: int | None = None) -> list[str]:
        """For a time, or for a number of requests."""
        if scenario.legs[0].http2:
            return self.h2load(scenario, port, seconds, requests)
        span = ["-N", str(requests)] if requests else ["-d", f"{seconds:g}"]
        return self.own(scenario, port, [*self.own_options(scenario), *span])

    def own(self, scenario: Scenario, port: int, options: list[str]) -> list[str]:
        security = []
        if scenario.legs[0].secure:
            security += ["-t", HOST]
        if scenario.legs[0].mutual:
            security += ["-k", self.certificates.client.both]
        if scenario.resume:
            security.append("-R")
        return [str(self.tools / "load"), "-H", f"Host: {HOST}", *security, *options, str(port), scenario.path]

    def own_options(self, scenario: Scenario) -> list[str]:
        options = ["-c", str(scenario.connections), "-e", str(scenario.body)]
        if scenario.post:
            options += ["-p", str(scenario.body)]
        if scenario.churn:
            options.append("-n")
        if scenario.rate:
            options += ["-r", str(scenario.rate)]
        return options

    def h2load(self, scenario: Scenario, port: int, seconds: float | None, requests: int | None) -> list[str]:
        command = ["h2load", "-t", "1", "-c", str(scenario.connections), "-m", str(scenario.streams), f"--connect-to=127.0.0.1:{port}"]
        command += ["-n", str(requests)] if requests else ["-D", f"{round(seconds * 1000)}ms"]
        if scenario.grpc:
            message = self.tools / "message"
            message.write_bytes(GRPC_MESSAGE)
            command += ["-d", str(message), "-H", "content-type: application/grpc", "-H", "te: trailers"]
        return [*command, url(scenario)]

    def read(self, scenario: Scenario, output: str) -> Outcome:
        """Raises when a single request has failed: what a broken proxy costs is no figure."""
        outcome = self.read_h2load(scenario, output) if scenario.legs[0].http2 else self.read_own(output)
        if scenario.churn and scenario.legs[0].secure:
            # A run begins without tickets.
            expected = outcome.completed - 4 * scenario.connections if scenario.resume else 0
            if outcome.resumed < expected or (not scenario.resume and outcome.resumed > 0):
                raise MeasureError(f"{outcome.resumed} of {outcome.handshakes} handshakes were resumptions")
        return outcome

    def read_own(self, output: str) -> Outcome:
        result = json.loads(output)
        if result["failed"] or not result["completed"]:
            kinds = ", ".join(f"{count} {kind}" for kind, count in result["failures"].items() if count)
            total = result["failed"] + result["completed"]
            raise MeasureError(f"{result['failed']} of {total} requests failed ({kinds or 'none completed'})")
        return Outcome(
            result["completed"], result["rate"], result["seconds"], result["p50"], result["p99"], result["handshakes"], result["resumed"]
        )

    def read_h2load(self, scenario: Scenario, output: str) -> Outcome:
        counts = re.search(r"requests: .*?(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
        finish = re.search(r"finished in ([\d.]+)(us|ms|s),", output)
        body = re.search(r"\((\d+)\) data", output)
        status = re.search(r"status codes: .*", output)
        if not (counts and finish and body and status):
            raise MeasureError(f"h2load: no result in {output.strip()[-200:]!r}")
        done, succeeded, *broken = (int(count) for count in counts.groups())
        # Of what was under way at the end it counts the heads that had come.
        if not done or succeeded != done or any(broken) or not re.search(r"\d+ 2xx, 0 3xx, 0 4xx, 0 5xx", status.group(0)):
            raise MeasureError(f"h2load: {counts.group(0)}; {status.group(0)}")
        if int(body.group(1)) < done * scenario.body:
            raise MeasureError(f"h2load: {body.group(1)} bytes of body for {done} responses of {scenario.body}")
        seconds = float(finish.group(1)) * {"us": 1e-6, "ms": 1e-3, "s": 1}[finish.group(2)]
        return Outcome(done, done / seconds, seconds)


def url(scenario: Scenario) -> str:
    """Without the port: to a mesh, a name with another port than the service's is another service."""
    return f"{'https' if scenario.legs[0].secure else 'http'}://{HOST}{scenario.path}"


def verify(port: int, scenario: Scenario, certificates: Certificates, directory: Path) -> None:
    """One request of the scenario, byte by byte: what follows must measure a proxy and not an error page."""
    leg = scenario.legs[0]
    content, head = directory / "content", directory / "head"
    expected = GRPC_MESSAGE if scenario.grpc else bytes(ord("a") + i % 26 for i in range(scenario.body))
    version = ("--http2" if leg.secure else "--http2-prior-knowledge") if leg.http2 else "--http1.1"
    command = [
        "curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "10", version, "--connect-to", f"::127.0.0.1:{port}",
        "--output", str(content), "--dump-header", str(head), "--write-out", "%{http_version} %{http_code}",
    ]  # fmt: skip
    if leg.secure:
        command += ["--cacert", certificates.authority, "--tlsv1.3"]
    if leg.mutual:
        command += ["--cert", certificates.client.chain, "--key", certificates.client.key]
    if scenario.post:
        command += ["--header", "Expect:", "--data-binary", "@-"]
    if scenario.grpc:
        command += ["--header", "content-type: application/grpc", "--header", "te: trailers", "--data-binary", "@-"]
    for file in (content, head):
        file.unlink(missing_ok=True)
    sent = expected if scenario.post or scenario.grpc else b""
    done = subprocess.run([*command, url(scenario)], input=sent, capture_output=True, timeout=30)
    if done.returncode != 0:
        raise MeasureError(f"check of {scenario.path}: {done.stderr.decode(errors='replace').strip()}")
    wanted = f"{'2' if leg.http2 else '1.1'} 200"
    if done.stdout.decode() != wanted:
        raise MeasureError(f"check of {scenario.path}: expected version and status {wanted}, found {done.stdout.decode()}")
    received = content.read_bytes() if content.exists() else b""
    if received != expected:
        raise MeasureError(
            f"check of {scenario.path}: expected the {len(expected)} bytes of the origin, found {len(received)} that differ"
        )  # fmt: skip
    if scenario.grpc and not re.search(r"^grpc-status: 0\s*$", head.read_text(), re.MULTILINE):
        raise MeasureError(f"check of {scenario.path}: expected the trailer grpc-status: 0, found none")
