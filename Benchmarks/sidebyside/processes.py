"""Starting processes on a CPU, reading what they cost from /proc, and ending every one of them whatever happens."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class Interrupts:
    """Turns SIGINT and SIGTERM into KeyboardInterrupt, but not between the start of a process and its entry in our list."""

    def __init__(self) -> None:
        self.held = False
        self.pending = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._arrived)

    def _arrived(self, _number: int, _frame: object) -> None:
        if self.held:
            self.pending = True
        else:
            raise KeyboardInterrupt

    @contextmanager
    def hold(self) -> Iterator[None]:
        self.held = True
        try:
            yield
        finally:
            self.held = False
            if self.pending:
                self.pending = False
                raise KeyboardInterrupt


class Processes:
    """Every process of the run. Ends them, by pid and with their descendants, when the `with` block is left."""

    def __init__(self) -> None:
        self.interrupts = Interrupts()
        self.running: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        with self.interrupts.hold():
            for process in reversed(self.running[:]):
                self.end(process)

    def start(self, command: list[str], cpu: int, log: Path | None = None, piped: bool = False) -> subprocess.Popen[str]:
        """Starts `command` pinned to `cpu`. Output goes to `log`, or, if `piped`, stdin and stdout are pipes and stderr goes to `log`."""
        output = open(log, "a") if log else None
        ours = os.sched_getaffinity(0)
        try:
            with self.interrupts.hold():
                # The affinity is inherited: taskset would be one more exec in the time to the first byte.
                os.sched_setaffinity(0, {cpu})
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                    stdout=subprocess.PIPE if piped else output,
                    stderr=output,
                    text=True,
                    # Ctrl-C is for us: we end them in order.
                    start_new_session=True,
                )
                self.running.append(process)
        finally:
            os.sched_setaffinity(0, ours)
            if output:
                output.close()
        return process

    def end(self, process: subprocess.Popen[str], number: int = signal.SIGTERM, patience: float = 3) -> None:
        """Asks the process to end, makes it after `patience` seconds, and leaves none of its descendants."""
        family = descendants(process.pid)
        if process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                try:
                    pipe.close()
                except OSError:
                    pass
        deadline = time.monotonic() + 1
        for pid, started in family.items():
            while start_ticks(pid) == started and time.monotonic() < deadline:
                time.sleep(0.01)
            if start_ticks(pid) == started:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        self.running.remove(process)


def stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on (field 3 of proc(5)), or None if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def start_ticks(pid: int) -> str | None:
    """With the pid, this names a process for ever: pids come round again. None for one that is gone or a zombie."""
    fields = stat_fields(pid)
    return fields[19] if fields and fields[0] != "Z" else None


def descendants(pid: int) -> dict[int, str]:
    """The processes below `pid`, without it, each with its start time."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := stat_fields(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found: dict[int, str] = {}
    todo = children.get(pid, [])[:]
    while todo:
        child = todo.pop()
        if started := start_ticks(child):
            found[child] = started
        todo += children.get(child, [])
    return found


def family(pid: int) -> list[int]:
    return [pid, *descendants(pid)]


@dataclass(frozen=True)
class CPUTime:
    """What the scheduler says of a process and its descendants (/proc/PID/task/TID/schedstat), in nanoseconds."""

    ran: int
    waited: int

    def __sub__(self, earlier: CPUTime) -> CPUTime:
        return CPUTime(self.ran - earlier.ran, self.waited - earlier.waited)


def cpu_time(pids: list[int]) -> CPUTime:
    ran = waited = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            fields = (task / "schedstat").read_text().split()
            ran += int(fields[0])
            waited += int(fields[1])
    return CPUTime(ran, waited)


@dataclass(frozen=True)
class Memory:
    """Resident and proportional set size of a process and its descendants (/proc/PID/smaps_rollup), in bytes."""

    rss: int
    pss: int


def memory(pids: list[int]) -> Memory:
    sizes = {"Rss:": 0, "Pss:": 0}
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            fields = line.split()
            if fields[0] in sizes:
                sizes[fields[0]] += int(fields[1]) * 1024
    return Memory(rss=sizes["Rss:"], pss=sizes["Pss:"])


def free_port() -> int:
    """A port that nobody listens on, below the range from which the kernel takes the ports of outgoing connections."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(1000):
        port = random.randrange(min(10000, low - 1000), low)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError(f"no free port below {low}")
