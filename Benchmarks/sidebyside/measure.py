"""The scenarios, and how one of them is measured once on one proxy."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .peers import HOST, Peer, PeerError, Place
from .processes import Processes, cpu_time, family, free_port, memory


class MeasureError(Exception):
    """One measurement failed; the text says why. The others go on."""


#: From pids and the file of the report: the command that counts until SIGINT, and what reads the total from the report.
Counter = Callable[[list[int], Path], tuple[list[str], Callable[[str], int]]]


@dataclass(frozen=True)
class Row:
    """A line of the table: a figure that each measurement of a scenario yields."""

    key: str
    title: str
    unit: str
    #: Ratios mean nothing for a difference of two figures.
    ratios: bool = True


@dataclass(frozen=True)
class Scenario:
    name: str
    rows: tuple[Row, ...]
    path: str = "/1k"
    body: int = 1024
    #: A POST of `body` bytes, which comes back.
    post: bool = False
    connections: int = 64
    churn: bool = False
    #: Requests a second of an open loop; None: each connection sends its next request at once. A proxy that cannot keep up shows
    #: it in the latency, and in failures once it is five seconds late.
    rate: int | None = None
    kind: str = "load"

    def load_options(self) -> list[str]:
        options = ["-c", str(self.connections), "-e", str(self.body)]
        if self.post:
            options += ["-p", str(self.body)]
        if self.churn:
            options.append("-n")
        if self.rate:
            options += ["-r", str(self.rate)]
        return options


def cpu_row(key: str, title: str, unit: str = "CPU µs/request") -> tuple[Row, ...]:
    return (Row(key, title, unit),)


SCENARIOS = [
    Scenario("h1", cpu_row("h1", "h1: keep-alive, 64 connections, 1 KiB")),
    Scenario("h1-64k", cpu_row("h1-64k", "h1-64k: 64 KiB response"), path="/64k", body=64 * 1024),
    Scenario("h1-1m", cpu_row("h1-1m", "h1-1m: 1 MiB response, 16 connections", "CPU s/GiB"), path="/1m", body=1024 * 1024, connections=16),
    Scenario("post-16k", cpu_row("post-16k", "post-16k: 16 KiB request body, echoed"), path="/echo", body=16 * 1024, post=True),
    Scenario("churn", cpu_row("churn", "churn: a connection per request"), churn=True),
    Scenario(
        "latency",
        (
            Row("latency-p50", "added latency at 2,000 req/s, open loop, p50", "µs", ratios=False),
            Row("latency-p99", "the same, p99", "µs", ratios=False),
            Row("latency-cpu", "CPU at 2,000 req/s", "CPU µs/request"),
        ),
        connections=32,
        rate=2000,
    ),
    Scenario(
        "memory",
        (
            Row("rss", "idle memory (RSS)", "MiB"),
            Row("pss", "idle memory (PSS)", "MiB"),
            Row("idle", "memory per idle connection", "bytes"),
        ),
        kind="memory",
    ),
    Scenario("start", (Row("start", "start to the first proxied byte", "ms"),), kind="start"),
]

#: The pseudo-peer of the latency scenario: no proxy at all.
DIRECT = "direct"


@dataclass
class Bench:
    """What all measurements of a run share."""

    processes: Processes
    tools: Path
    directory: Path
    origin: int
    proxy_cpu: int
    load_cpu: int
    seconds: float
    warmup: float
    idle_connections: int
    starts: int = 0

    def load(self, port: int, path: str, options: list[str], cpu: int | None = None) -> subprocess.Popen[str]:
        command = [str(self.tools / "load"), "-H", f"Host: {HOST}", *options, str(port), path]
        return self.processes.start(command, self.load_cpu if cpu is None else cpu, log=self.directory / "load.log", piped=True)

    def loaded(self, port: int, path: str, options: list[str], seconds: float) -> dict:
        """Runs the load to its end. Raises when a single request has failed: what a broken proxy costs is no figure."""
        process = self.load(port, path, [*options, "-d", f"{seconds:g}"])
        try:
            output, _ = process.communicate(timeout=seconds + 60)
        except subprocess.TimeoutExpired:
            raise MeasureError("the load generator did not end") from None
        finally:
            self.processes.end(process)
        if process.returncode != 0:
            raise MeasureError(f"the load generator ended with {process.returncode}: {tail(self.directory / 'load.log')}")
        result = json.loads(output)
        if result["failed"] or not result["completed"]:
            kinds = ", ".join(f"{count} {kind}" for kind, count in result["failures"].items() if count)
            total = result["failed"] + result["completed"]
            raise MeasureError(f"{result['failed']} of {total} requests failed ({kinds or 'none completed'})")
        return result

    def start(self, peer: Peer) -> tuple[subprocess.Popen[str], Place, float]:
        """Starts the proxy and waits for its first response. Returns the milliseconds this took as well."""
        self.starts += 1
        directory = self.directory / f"{self.starts}-{peer.name}"
        directory.mkdir()
        place = Place(directory, peer.fixed_port or free_port(), self.origin, self.tools / "floor", self.idle_connections)
        command = peer.command(place)
        prober = self.load(place.port, "/1k", ["-f"])
        try:
            assert prober.stdout
            prober.stdout.readline()
            begin = time.monotonic_ns()
            process = self.processes.start(command, self.proxy_cpu, log=directory / "log")
            # The prober gives up by itself after 20 seconds; a proxy that has ended needs no more waiting.
            while prober.poll() is None and process.poll() is None:
                time.sleep(0.002)
        finally:
            output = ""
            if prober.poll() is not None and prober.stdout:
                output = prober.stdout.read()
            self.processes.end(prober)
        if process.poll() is not None or not output:
            state = "runs, but does not answer" if process.poll() is None else f"ended with {process.returncode}"
            self.processes.end(process)
            raise MeasureError(f"{peer.name} {state}: {tail(directory / 'log')}")
        return process, place, (json.loads(output)["first"] - begin) / 1e6

    def measure(self, scenario: Scenario, peer: Peer) -> dict[str, float]:
        """One round of one cell: the figures by row, and beside them what explains them."""
        if peer.name == DIRECT:
            verify(self.origin, scenario)
            self.loaded(self.origin, scenario.path, scenario.load_options(), self.warmup)
            result = self.loaded(self.origin, scenario.path, scenario.load_options(), self.seconds)
            return {"p50": result["p50"], "p99": result["p99"], "rate": result["rate"]}
        process, place, milliseconds = self.start(peer)
        try:
            verify(place.port, scenario)
            if scenario.kind == "start":
                return {"start": milliseconds}
            if scenario.kind == "memory":
                return self.measure_memory(process.pid, place.port)
            return self.measure_load(scenario, process.pid, place.port)
        finally:
            alive = process.poll() is None
            self.processes.end(process)
            if not alive:
                raise MeasureError(f"{peer.name} ended with {process.returncode} during the run: {tail(place.directory / 'log')}")

    def measure_load(self, scenario: Scenario, pid: int, port: int) -> dict[str, float]:
        self.loaded(port, scenario.path, scenario.load_options(), self.warmup)
        pids = family(pid)
        before = cpu_time(pids)
        result = self.loaded(port, scenario.path, scenario.load_options(), self.seconds)
        # The proxy still has to see that the connections are gone.
        time.sleep(0.05)
        spent = cpu_time(pids) - before
        each = spent.ran / 1000 / result["completed"]
        figures = {
            "requests": result["completed"], "rate": result["rate"], "p50": result["p50"], "p99": result["p99"],
            "cpu": each, "busy": spent.ran / 1e9 / result["seconds"], "waited": spent.waited / 1e9 / result["seconds"],
        }  # fmt: skip
        if scenario.rate:
            figures["latency-cpu"] = each
        elif scenario.rows[0].unit == "CPU s/GiB":
            figures[scenario.name] = each / 1e6 * (1 << 30) / scenario.body
        else:
            figures[scenario.name] = each
        return figures

    def measure_memory(self, pid: int, port: int) -> dict[str, float]:
        settle = 0.5
        time.sleep(settle)
        pids = family(pid)
        idle = memory(pids)
        # Buffers and pools that the first requests make are not the price of an idle connection.
        self.loaded(port, "/1k", ["-c", "16", "-e", "1024"], 0.5)
        time.sleep(settle)
        before = memory(pids)
        holder = self.load(port, "/1k", ["-i", "-c", str(self.idle_connections), "-e", "1024"])
        try:
            assert holder.stdout
            opened = json.loads(holder.stdout.readline() or '{"open": 0, "failed": 0}')
            if opened["open"] != self.idle_connections:
                raise MeasureError(f"{opened['open']} of {self.idle_connections} idle connections were opened")
            time.sleep(settle)
            after = memory(pids)
            output, _ = holder.communicate("", timeout=30)
        finally:
            self.processes.end(holder)
        if json.loads(output)["failed"]:
            raise MeasureError(f"{json.loads(output)['failed']} idle connections were closed by the proxy")
        return {
            "rss": idle.rss / (1 << 20), "pss": idle.pss / (1 << 20),
            "idle": (after.rss - before.rss) / self.idle_connections,
            "idle-pss": (after.pss - before.pss) / self.idle_connections,
        }  # fmt: skip

    def count_calls(self, scenario: Scenario, peer: Peer, count: Counter) -> float:
        """System calls per request, in a run of its own: counting them costs time."""
        process, place, _ = self.start(peer)
        try:
            self.loaded(place.port, scenario.path, scenario.load_options(), 0.5)
            report = place.directory / "calls"
            command, total = count(family(process.pid), report)
            counter = self.processes.start(command, self.load_cpu, log=place.directory / "counter.log")
            try:
                time.sleep(0.5)
                result = self.loaded(place.port, scenario.path, scenario.load_options(), 1)
            finally:
                self.processes.end(counter, signal.SIGINT)
            if not report.exists():
                raise MeasureError(f"{command[0]}: {tail(place.directory / 'counter.log')}")
            return total(report.read_text()) / result["completed"]
        finally:
            self.processes.end(process)


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


def verify(port: int, scenario: Scenario) -> None:
    """One request of the scenario, byte by byte: what follows must measure a proxy and not an error page."""
    body = bytes(ord("a") + i % 26 for i in range(scenario.body))
    head = f"{'POST' if scenario.post else 'GET'} {scenario.path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n"
    if scenario.post:
        head += f"Content-Length: {len(body)}\r\n"
    received = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(head.encode() + b"\r\n" + (body if scenario.post else b""))
            end = -1
            while end < 0 or len(received) < end + 4 + len(body):
                piece = connection.recv(1 << 20)
                if not piece:
                    break
                received += piece
                end = received.find(b"\r\n\r\n")
    except OSError as error:
        raise MeasureError(f"check of {scenario.path}: {error}") from None
    top, _, content = received.partition(b"\r\n\r\n")
    status = top.split(b"\r\n")[0].decode("latin-1")
    if not status.startswith("HTTP/1.1 200"):
        raise MeasureError(f"check of {scenario.path}: expected status 200, found {status!r}")
    if content != body:
        raise MeasureError(f"check of {scenario.path}: expected the {len(body)} bytes of the origin, found {len(content)} that differ")


def tail(path: Path, lines: int = 5) -> str:
    try:
        text = path.read_text(errors="replace").strip()
    except OSError:
        return "no output"
    return " | ".join(text.splitlines()[-lines:]) or "no output"


__all__ = ["Bench", "DIRECT", "MeasureError", "PeerError", "Row", "SCENARIOS", "Scenario", "call_counter", "verify"]
