"""How one scenario is measured once on one proxy, or on the two of a mesh."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .certificates import Certificates
from .legs import Role
from .loads import Generator, MeasureError, Outcome, verify
from .peers import Peer, PeerError, Place
from .processes import Processes, cpu_time, family, free_port, memory
from .scenarios import Scenario

#: From pids and the file of the report: the command that counts until SIGINT, and what reads the total from the report.
Counter = Callable[[list[int], Path], tuple[list[str], Callable[[str], int]]]

#: The pseudo-peer of the latency scenarios: no proxy at all.
DIRECT = "direct"

#: Enough for the memory of a TLS connection, which is tens of kilobytes.
TLS_IDLE_CONNECTIONS = 1000

#: How long a proxy may take until it answers.
START_LIMIT = 20


@dataclass
class Running:
    """The proxies of one measurement. Callers reach `port`."""

    processes: list[subprocess.Popen[str]]
    places: list[Place]
    port: int
    #: From the start until the first response, where that is what is measured.
    milliseconds: float = 0

    def pids(self) -> list[int]:
        return [pid for process in self.processes for pid in family(process.pid)]

    def ended(self) -> str | None:
        """What became of a proxy that runs no longer."""
        for process, place in zip(self.processes, self.places):
            if process.poll() is not None:
                return f"ended with {process.returncode}: {tail(place.directory / 'log')}"
        return None


@dataclass
class Bench:
    """What all measurements of a run share."""

    processes: Processes
    tools: Path
    directory: Path
    certificates: Certificates
    #: The origins of HTTP/1.1 and of HTTP/2.
    origins: tuple[int, int]
    proxy_cpu: int
    load_cpu: int
    seconds: float
    warmup: float
    idle_connections: int
    starts: int = 0

    def __post_init__(self) -> None:
        self.generator = Generator(self.tools, self.certificates)

    def origin(self, scenario: Scenario) -> int:
        return self.origins[scenario.legs[-1].http2]

    # What drives the proxies.

    def begin(self, command: list[str]) -> subprocess.Popen[str]:
        return self.processes.start(command, self.load_cpu, log=self.directory / "load.log", piped=True)

    def loaded(self, scenario: Scenario, port: int, seconds: float | None = None, requests: int | None = None) -> Outcome:
        """Runs the load to its end. Raises when a single request has failed: what a broken proxy costs is no figure."""
        return self.generator.read(scenario, self.driven(scenario, port, seconds, requests))

    def warm(self, scenario: Scenario, port: int) -> None:
        """Load whose result nobody reads: so short a run may end before its first response."""
        self.driven(scenario, port, self.warmup, None)

    def driven(self, scenario: Scenario, port: int, seconds: float | None, requests: int | None) -> str:
        process = self.begin(self.generator.command(scenario, port, seconds, requests))
        try:
            output, _ = process.communicate(timeout=(seconds or 300) + 60)
        except subprocess.TimeoutExpired:
            raise MeasureError("the load generator did not end") from None
        finally:
            self.processes.end(process)
        if process.returncode != 0:
            raise MeasureError(f"the load generator ended with {process.returncode}: {tail(self.directory / 'load.log')}")
        return output

    # The proxies.

    @contextmanager
    def running(self, scenario: Scenario, peer: Peer, wrapper: Callable[[Place], list[str]] | None = None) -> Iterator[Running]:
        """Proxies that have answered one request of the scenario right. `wrapper` stands before their commands, and makes them slow."""
        running = Running([], [], 0)
        try:
            self.start(running, scenario, peer, wrapper)
            try:
                yield running
            except MeasureError as error:
                # What the load saw of it is the lesser half of the story.
                raise MeasureError(f"{peer.name} {ended} ({error})" if (ended := running.ended()) else str(error)) from None
            if ended := running.ended():
                raise MeasureError(f"{peer.name} {ended}")
        finally:
            for process in running.processes:
                self.processes.end(process, patience=60 if wrapper else 3)

    def place(self, scenario: Scenario, peer: Peer, role: Role, legs: slice, origin: int) -> Place:
        directory = self.directory / f"{self.starts}-{peer.name}-{role.value}"
        directory.mkdir()
        downstream, upstream = scenario.legs[legs]
        return Place(
            directory, peer.fixed_port or free_port(), origin, self.tools / "floor", self.idle_connections, self.certificates,
            downstream, upstream, role, scenario.grpc,
        )  # fmt: skip

    def start(self, running: Running, scenario: Scenario, peer: Peer, wrapper: Callable[[Place], list[str]] | None) -> None:
        self.starts += 1
        origin = self.origin(scenario)
        if scenario.is_mesh:
            callee = self.place(scenario, peer, Role.CALLEE, slice(1, 3), origin)
            running.places = [callee, self.place(scenario, peer, Role.CALLER, slice(0, 2), callee.port)]
        else:
            running.places = [self.place(scenario, peer, Role.ALONE, slice(0, 2), origin)]
        running.port = running.places[-1].port
        deadline = time.monotonic() + START_LIMIT * (10 if wrapper else 1)
        if scenario.kind == "start":
            running.milliseconds = self.first_byte(running, scenario, peer)
        else:
            for place in running.places:
                command = [*(wrapper(place) if wrapper else []), *peer.command(place)]
                running.processes.append(self.processes.start(command, self.proxy_cpu, log=place.directory / "log"))
                # Who checks its endpoints finds the other sidecar there, and need not wait for the next check.
                wait_until_listening(place.port, deadline, running.processes[-1])
        while True:
            try:
                verify(running.port, scenario, self.certificates, self.directory)
                return
            except MeasureError as error:
                if ended := running.ended():
                    raise MeasureError(f"{peer.name} {ended}") from None
                if time.monotonic() > deadline:
                    logs = " | ".join(tail(place.directory / "log") for place in running.places)
                    raise MeasureError(f"{peer.name} runs, but {error}; it says: {logs}") from None
            time.sleep(0.02)

    def first_byte(self, running: Running, scenario: Scenario, peer: Peer) -> float:
        """Starts the one proxy under the eyes of a prober. Milliseconds."""
        place = running.places[0]
        command = peer.command(place)
        prober = self.begin(self.generator.own(scenario, place.port, ["-f"]))
        try:
            assert prober.stdout
            prober.stdout.readline()
            begin = time.monotonic_ns()
            process = self.processes.start(command, self.proxy_cpu, log=place.directory / "log")
            running.processes.append(process)
            # The prober gives up by itself after 20 seconds; a proxy that has ended needs no more waiting.
            while prober.poll() is None and process.poll() is None:
                time.sleep(0.002)
            output = prober.stdout.read() if prober.poll() is not None else ""
        finally:
            self.processes.end(prober)
        if process.poll() is not None or not output:
            raise MeasureError(f"{peer.name} {running.ended() or 'runs, but does not answer'}")
        return (json.loads(output)["first"] - begin) / 1e6

    # The measurements.

    def measure(self, scenario: Scenario, peer: Peer) -> dict[str, float]:
        """One round of one cell: the figures by row, and beside them what explains them."""
        if peer.name == DIRECT:
            verify(self.origin(scenario), scenario, self.certificates, self.directory)
            self.warm(scenario, self.origin(scenario))
            result = self.loaded(scenario, self.origin(scenario), self.seconds)
            return {"p50": result.p50, "p99": result.p99, "rate": result.rate}
        with self.running(scenario, peer) as running:
            if scenario.kind == "start":
                return {"start": running.milliseconds}
            if scenario.kind == "memory":
                return self.measure_memory(scenario, running)
            return self.measure_load(scenario, running)

    def measure_load(self, scenario: Scenario, running: Running) -> dict[str, float]:
        self.warm(scenario, running.port)
        pids = running.pids()
        before = cpu_time(pids)
        result = self.loaded(scenario, running.port, self.seconds)
        # The proxy still has to see that the connections are gone.
        time.sleep(0.05)
        spent = cpu_time(pids) - before
        each = spent.ran / 1000 / result.completed
        figures = {
            "requests": result.completed, "rate": result.rate, "p50": result.p50, "p99": result.p99,
            "cpu": each, "busy": spent.ran / 1e9 / result.seconds, "waited": spent.waited / 1e9 / result.seconds,
        }  # fmt: skip
        unit = scenario.rows[0].unit
        figures[scenario.name] = each / 1e6 * (1 << 30) / scenario.body if unit == "CPU s/GiB" else each
        return figures

    def measure_memory(self, scenario: Scenario, running: Running) -> dict[str, float]:
        settle = 0.5
        # A handshake takes a millisecond on either side.
        count = min(self.idle_connections, TLS_IDLE_CONNECTIONS) if scenario.legs[0].secure else self.idle_connections
        time.sleep(settle)
        pids = running.pids()
        idle = memory(pids)
        # Buffers and pools that the first requests make are not the price of an idle connection.
        self.loaded(scenario, running.port, 0.5)
        time.sleep(settle)
        before = memory(pids)
        holder = self.begin(self.generator.own(scenario, running.port, ["-i", "-c", str(count), "-e", str(scenario.body)]))
        try:
            assert holder.stdout
            opened = json.loads(holder.stdout.readline() or '{"open": 0, "failed": 0}')
            if opened["open"] != count:
                raise MeasureError(f"{opened['open']} of {count} idle connections were opened")
            time.sleep(settle)
            after = memory(pids)
            output, _ = holder.communicate("", timeout=30)
        finally:
            self.processes.end(holder)
        if json.loads(output)["failed"]:
            raise MeasureError(f"{json.loads(output)['failed']} idle connections were closed by the proxy")
        each = (after.rss - before.rss) / count
        return {
            "rss": idle.rss / (1 << 20), "pss": idle.pss / (1 << 20), "idle": each, scenario.rows[-1].key: each,
            "idle-pss": (after.pss - before.pss) / count,
        }  # fmt: skip

    def count_calls(self, scenario: Scenario, peer: Peer, count: Counter) -> float:
        """System calls per request, in a run of its own: counting them costs time."""
        with self.running(scenario, peer) as running:
            self.loaded(scenario, running.port, 0.5)
            directory = running.places[0].directory
            report = directory / "calls"
            command, total = count(running.pids(), report)
            counter = self.processes.start(command, self.load_cpu, log=directory / "counter.log")
            try:
                time.sleep(0.5)
                result = self.loaded(scenario, running.port, 1)
            finally:
                self.processes.end(counter, signal.SIGINT)
            if not report.exists():
                raise MeasureError(f"{command[0]}: {tail(directory / 'counter.log')}")
            return total(report.read_text()) / result.completed


def wait_until_listening(port: int, deadline: float, process: subprocess.Popen[str]) -> None:
    """Or until it has ended, or is late: the check that follows says what is wrong."""
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)


def perf_counter(pids: list[int], report: Path) -> tuple[list[str], Callable[[str], int]]:
    def total(text: str) -> int:
        found = re.search(r"^(\d+),,raw_syscalls:sys_enter", text, re.MULTILINE)
        if not found:
            raise MeasureError(f"perf: no count in {text.strip()!r}")
        return int(found.group(1))

    return ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-o", str(report), "-p", ",".join(map(str, pids))], total


def strace_counter(pids: list[int], report: Path) -> tuple[list[str], Callable[[str], int]]:
    def total(text: str) -> int:
        found = re.search(r"^100\.00\s+\S+\s+(?:\d+\s+)?(\d+)(?:\s+\d+)?\s+total$", text, re.MULTILINE)
        if not found:
            raise MeasureError("strace: no line with the total")
        return int(found.group(1))

    command = ["strace", "-c", "-f", "-qq", "-o", str(report)]
    for pid in pids:
        command += ["-p", str(pid)]
    return command, total


def call_counter() -> Counter | None:
    """perf, which hardly slows the proxy; else strace, which slows it so much that calls are shared by more requests; else None."""
    if shutil.which("perf"):
        probe = subprocess.run(["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "true"], capture_output=True, text=True)
        if probe.returncode == 0 and re.search(r"^\d+,,raw_syscalls", probe.stderr, re.MULTILINE):
            return perf_counter
    return strace_counter if shutil.which("strace") else None


def tail(path: Path, lines: int = 5) -> str:
    try:
        text = path.read_text(errors="replace").strip()
    except OSError:
        return "no output"
    return " | ".join(text.splitlines()[-lines:]) or "no output"


__all__ = ["Bench", "DIRECT", "MeasureError", "PeerError", "call_counter", "tail"]
