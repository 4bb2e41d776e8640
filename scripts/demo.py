#!/usr/bin/env python3
"""Plays AWS App Mesh's outlier detection walkthrough on loopback: four hosts, one sidecar, 50 requests a second.

usage: scripts/demo.py DIR     (DIR holds the programs `outrigger` and `outrigger-proxy`; scripts/demo builds them)

Everything that is printed was counted here, by the caller and by the hosts, or read from the sidecar's event log and admin pages.
Exit status: 0 if the counts are those of the walkthrough, 1 if not or if something failed, 2 for a wrong command line.
"""

import signal

# Ctrl-C ends the program without a traceback; once there is something to clean up, `main` takes over.
signal.signal(signal.SIGINT, signal.SIG_DFL)

import asyncio
import contextlib
import ctypes
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
WALKTHROUGH = REPOSITORY / "mesh-config" / "outlier-walkthrough"
AUTHORITY = "colors.walkthrough"

HOSTS = 4
RATE = 50  # requests a second
STEP = 200  # requests
CONNECTIONS = 8  # Enough that both workers of the sidecar get some.
WIDTH = 100


# ---------------------------------------------------------------------------------------------------------------- the screen


class Screen:
    """Plain lines; colours and a progress line only on a terminal."""

    def __init__(self):
        self.is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self.has_colours = self.is_terminal and not os.environ.get("NO_COLOR")
        self.has_blocks = (sys.stdout.encoding or "").lower().startswith("utf")
        self.started = time.monotonic()

    def paint(self, text, code):
        return f"\x1b[{code}m{text}\x1b[0m" if self.has_colours and text else text

    def bold(self, text):
        return self.paint(text, "1")

    def dim(self, text):
        return self.paint(text, "2")

    def green(self, text):
        return self.paint(text, "32")

    def red(self, text):
        return self.paint(text, "31")

    def line(self, text=""):
        self.progress("")
        print(text, flush=True)

    def heading(self, title, *why):
        self.line()
        self.line(self.bold(title))
        for sentence in why:
            self.line(f"   {sentence}")

    def clipped(self, text, indent="   "):
        """A line of another program; what is too wide is left out."""
        room = WIDTH - len(indent)
        self.line(indent + self.dim(text if len(text) <= room else text[: room - 3] + "..."))

    def wrapped(self, text, indent="   ", after=" ", code="2"):
        """A line of another program, broken after spaces or commas, so that all of it is there."""
        row, deeper = "", indent + " " * (len(text) - len(text.lstrip()) + 2)
        for piece in re.findall(f"[^{after}]*{after}?", text):
            if row and len(indent) + len(row) + len(piece.rstrip()) > WIDTH:
                self.line(indent + self.paint(row.rstrip(), code))
                row, indent = "", deeper
            row += piece
        self.line(indent + self.paint(row.rstrip(), code))

    def event(self, text):
        self.line(f"   {time.monotonic() - self.started:5.1f} s  {text}")

    def progress(self, text):
        if self.is_terminal:
            print(f"\r\x1b[K{self.dim(text)}" if text else "\r\x1b[K", end="", flush=True)

    def bar(self, count, total, columns=40):
        return ("█" if self.has_blocks else "#") * round(count * columns / total) if total else ""


screen = Screen()


class DemoError(Exception):
    """A sentence for the person who started the demo."""


# ----------------------------------------------------------------------------------------------------- the hosts and the caller


class Host:
    """One host of the service. It answers 200, or 500 while it is bad, and counts."""

    def __init__(self, number):
        self.name = f"host {number}"
        self.is_bad = False
        self.answers = Counter()  # by status

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def serve(self, reader, writer):
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")  # The caller sends no bodies.
                status = "500 Internal Server Error" if self.is_bad else "200 OK"
                self.answers[int(status[:3])] += 1
                body = f"{self.name}\n"
                writer.write(f"HTTP/1.1 {status}\r\nx-host: {self.name}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@dataclass
class Tally:
    """What became of the requests of one stretch of time."""

    status: Counter = field(default_factory=Counter)
    dropped: list = field(default_factory=list)  # Not answered by a host, with the reason.

    @property
    def total(self):
        return sum(self.status.values()) + len(self.dropped)


class Caller:
    """The application: calls the service through its sidecar, 50 times a second, whether answers come or not (open loop)."""

    def __init__(self, port):
        self.port = port
        self.idle = deque()
        self.open = set()

    async def run(self, count=None, until=None, label=""):
        """Sends `count` requests, or goes on until the future `until` is done."""
        tally, tasks, start, sent = Tally(), set(), time.monotonic(), 0
        while sent != count and not (until and until.done()):
            task = asyncio.create_task(self.call(tally))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            sent += 1
            if sent % 10 == 0:
                goal = f"/{count}" if count else ""
                screen.progress(f"   {label}{sent}{goal} requests: {tally.status[200]} x 200, {tally.status[500]} x 500")
            delay = start + sent / RATE - time.monotonic()
            if until and delay > 0:
                await asyncio.wait([until], timeout=delay)
            else:
                await asyncio.sleep(max(delay, 0))
        if tasks:
            await asyncio.wait(tasks)
        screen.progress("")
        return tally

    async def call(self, tally):
        try:
            status, came_from_host, text = await asyncio.wait_for(self.exchange(), 5)
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            tally.dropped.append(f"{type(error).__name__}: {error}")
            return
        if came_from_host:
            tally.status[status] += 1
        else:
            tally.dropped.append(f"the sidecar answered {status}: {text}")

    async def exchange(self):
        # Several connections in turn.
        if len(self.idle) >= CONNECTIONS:
            reader, writer = self.idle.popleft()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            self.open.add(writer)
        try:
            writer.write(f"GET / HTTP/1.1\r\nHost: {AUTHORITY}\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = re.search(r"\r\ncontent-length: *(\d+)", head)
            if not length:
                raise ValueError("a response without content-length")
            body = await reader.readexactly(int(length[1]))
        except BaseException:
            self.open.discard(writer)
            writer.close()
            raise
        self.idle.append((reader, writer))
        return int(head.split(" ", 2)[1]), "\r\nx-host:" in head, body.decode("latin-1").strip()

    def close(self):
        for writer in list(self.open):
            writer.close()


# ------------------------------------------------------------------------------------------------------------------ the mesh


class Mesh:
    """A copy of the walkthrough's YAML, with free ports and without its outlierDetection, which is put in later."""

    def __init__(self, folder, hosts):
        self.folder = folder / "mesh"
        self.file = self.folder / "mesh.yaml"
        self.hosts = hosts
        shutil.copytree(WALKTHROUGH, self.folder)
        self.local = (self.folder / "local.yaml").read_text()
        self.with_detection = self.file.read_text()
        found = re.search(r"^( *)outlierDetection:\n(?:\1 +.*\n)+", self.with_detection, re.MULTILINE)
        if not found:
            raise DemoError(f"{WALKTHROUGH}/mesh.yaml has no outlierDetection to take out")
        self.detection = found[0].rstrip("\n").split("\n")
        self.without_detection = self.with_detection.replace(found[0], "")
        self.file.write_text(self.without_detection)

    def take_ports(self):
        self.outbound, self.admin = free_port(), free_port()
        text = re.sub(r"bind: 127\.0\.0\.1:\d+", f"bind: 127.0.0.1:{self.outbound}", self.local)
        text = re.sub(r"address: 127\.0\.0\.1:\d+", f"address: 127.0.0.1:{self.admin}", text)
        ports = iter(self.hosts)
        text = re.sub(r"( port: )\d+", lambda match: f"{match[1]}{next(ports).port}", text)
        text = text.replace("  admin:\n", "  outlierEventLog:\n    path: events.json\n  admin:\n")
        (self.folder / "local.yaml").write_text(text)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# --------------------------------------------------------------------------------------------------------------- the sidecar


class Sidecar:
    """`outrigger run`, which runs outrigger-proxy; what both say, and the events that they log."""

    COMMAND = ["run", "-f", "mesh", "--node", "frontend"]

    def __init__(self, programs, folder):
        self.programs = programs
        self.folder = folder
        self.process = None
        self.lines = []
        self.spoke = asyncio.Condition()
        self.events = []

    async def start(self, mesh):
        # Another program may take a port that we found free: find others.
        for _ in range(5):
            mesh.take_ports()
            await self.spawn()
            try:
                line = await self.says(r"applied by \d+ worker|cannot listen|cannot start|is not valid", 15)
            except DemoError as error:
                raise DemoError(f"the sidecar did not start: {error}{self.last_words()}") from None
            if "applied by" in line:
                return line
            await self.stop()
        raise DemoError(f"the sidecar did not start:{self.last_words()}")

    async def spawn(self):
        self.lines = []
        # A session of its own: Ctrl-C is for us, and we end it in good order. Should we die without a chance to do so, the kernel
        # asks it to end.
        prctl = ctypes.CDLL(None).prctl
        self.process = await asyncio.create_subprocess_exec(
            self.programs / "outrigger", *self.COMMAND, cwd=self.folder, env={**os.environ, "XDG_RUNTIME_DIR": str(self.folder)},
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            start_new_session=True, preexec_fn=lambda: prctl(1, signal.SIGTERM, 0, 0, 0))  # PR_SET_PDEATHSIG
        self.reading = [asyncio.create_task(self.read_lines()), asyncio.create_task(self.read_events())]

    async def read_lines(self):
        while line := await self.process.stderr.readline():
            async with self.spoke:
                self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                self.spoke.notify_all()
        async with self.spoke:
            self.spoke.notify_all()

    async def read_events(self):
        path, position = self.folder / "events.json", 0
        while True:
            await asyncio.sleep(0.05)
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                file.seek(position)
                for line in file:
                    if line.endswith(b"\n"):
                        position += len(line)
                        self.events.append(line.decode().rstrip("\n"))
                        tell_event(json.loads(line), self.names)

    async def says(self, pattern, timeout, since=0):
        """Waits for a line that matches, from the line with number `since` on."""

        def found():
            return next((line for line in self.lines[since:] if re.search(pattern, line)), None)

        async def wait():
            async with self.spoke:
                await self.spoke.wait_for(lambda: found() or self.process.stderr.at_eof())
            return found()

        try:
            line = await asyncio.wait_for(wait(), timeout)
        except asyncio.TimeoutError:
            raise DemoError(f"outrigger did not say \"{pattern}\" within {timeout} s") from None
        if not line:
            raise DemoError("outrigger ended")
        return line

    def last_words(self):
        return "".join(f"\n  | {line}" for line in self.lines[-8:])

    async def stop(self):
        """Asks it to drain, then to end now, then makes it."""
        if not self.process:
            return
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            if self.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    self.process.send_signal(number)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self.process.wait(), 2)
        for proxy in self.orphans():
            with contextlib.suppress(ProcessLookupError):
                os.kill(proxy, signal.SIGKILL)
        for task in self.reading:
            task.cancel()
        self.process = None

    def orphans(self):
        """The proxy that is still there, if `outrigger run` ended without it. It runs a snapshot in our folder."""
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if words[0].endswith(b"/outrigger-proxy") and any(word.startswith(bytes(self.folder) + b"/") for word in words):
                    yield int(entry.name)

    async def page(self, port, path):
        """A page of the admin interface."""
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 2)
            with contextlib.closing(writer):
                writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
                head, _, body = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
        except (OSError, asyncio.TimeoutError) as error:
            raise DemoError(f"the admin page {path} cannot be read: {type(error).__name__}: {error}") from None
        if b" 200 " not in head.split(b"\r\n")[0] or b"chunked" in head.lower():
            raise DemoError(f"GET {path} at the admin address: {head.decode('latin-1')}")
        return body.decode()


def tell_event(event, names):
    """An event of the log in words."""
    host = names.get(event.get("upstream_url"), event.get("upstream_url"))
    match event["action"]:
        case "EJECT":
            text = f"{screen.red(f'{host} is ejected')}: 5 errors in a row; out for {event['ejection_secs']} s, back at the sweep after"
        case "UNEJECT":
            text = f"{screen.green(f'{host} is back')} after {event['secs_since_last_action']} s: the sweep found its time over"
        case "PANIC_ON":
            text = f"{screen.red('panic')}: {available(event)} are left, less than half, so all four get requests again"
        case "PANIC_OFF":
            text = f"{screen.green('panic is over')}: {available(event)} may be used"
        case action:
            text = f"{action} {host}: {event['reason']}"
    screen.event(text)


def available(event):
    return f"{event['available_hosts']} of {event['total_hosts']} hosts"


# ------------------------------------------------------------------------------------------------------------- the walkthrough


@dataclass
class Row:
    """One step: what App Mesh's walkthrough says, what was measured, and how far they may be apart."""

    title: str
    expected: str
    least: int  # answers 200
    most: int
    tally: Tally = None

    @property
    def is_right(self):
        tally = self.tally
        return self.least <= tally.status[200] <= self.most and sum(tally.status.values()) == STEP and not tally.dropped

    def line(self):
        verdict = screen.green("as expected") if self.is_right else screen.red("NOT AS EXPECTED")
        status = self.tally.status
        return f"   {self.title:<40} {self.expected:^11}   {f'{status[200]:>3} / {status[500]:<3}':^11}   {verdict}"


class Walkthrough:
    def __init__(self, hosts, mesh, sidecar, caller):
        self.hosts = hosts
        self.mesh = mesh
        self.sidecar = sidecar
        self.caller = caller
        self.rows = []
        self.problems = []

    async def play(self):
        hosts = self.hosts
        hosts[3].is_bad = True
        await self.step(
            "1  No outlier detection, host 4 answers 500 to everything",
            ["Round robin gives it every fourth request, and nobody takes it out."],
            Row("1  one bad host, no detection", "150 / 50 ", 148, 152))
        await self.switch_detection_on()
        await self.step(
            "2  Outlier detection, host 4 still bad",
            ["Its fifth error in a row ejects it, at once and not at the end of an interval."],
            Row("2  one bad host, with detection", "195 / 5  ", 193, 197))
        hosts[2].is_bad = True
        await self.step(
            "3  Host 3 goes bad, too",
            ["Five more callers see an error, then host 3 is out as well."],
            Row("3  a second host goes bad", "195 / 5  ", 193, 197))
        await self.step(
            "   The same load again",
            ["Two of four hosts are bad, and no caller sees it."],
            Row("   the same load again", "200 / 0  ", 200, 200))
        hosts[1].is_bad = True
        await self.step(
            "4  Host 2 goes bad, too: panic",
            ["Less than half of the hosts are left. The good one alone would get all the load and fall over,",
             "so health is ignored: a quarter of the requests succeeds rather than none."],
            Row("4  a third host goes bad: panic", " 50 / 150", 47, 57))
        await self.show_what_the_sidecar_says()
        await self.break_the_mesh()

    async def step(self, title, why, row):
        screen.heading(title, *why)
        before = [Counter(host.answers) for host in self.hosts]
        row.tally = await self.caller.run(count=STEP)
        self.rows.append(row)
        for host, old in zip(self.hosts, before):
            new = host.answers - old
            good, bad = new[200], new[500]
            bars = screen.green(screen.bar(good, STEP)) + screen.red(screen.bar(bad, STEP))
            screen.line(f"   {host.name} {good + bad:>5} requests  {bars}{'  answers 500' if host.is_bad else ''}")
        answers = f"{row.tally.status[200]} x 200, {row.tally.status[500]} x 500"
        good, _, bad = row.expected.split()
        screen.line(f"   {screen.bold(answers)}   (App Mesh's walkthrough: {good} x 200, {bad} x 500)")
        self.look_for_trouble(row.tally)

    def look_for_trouble(self, tally):
        if tally.dropped:
            self.problems.append(f"{len(tally.dropped)} requests were not answered by a host; the first: {tally.dropped[0]}")
            screen.wrapped(f"{len(tally.dropped)} requests were not answered by a host; the first: {tally.dropped[0]}", code="31")
        if died := next((line for line in self.sidecar.lines if "starting it again" in line), None):
            raise DemoError(died)

    async def switch_detection_on(self):
        screen.heading("   The YAML of the service is edited while requests go on")
        for line in self.mesh.detection:
            screen.line("   " + screen.green(f"+ {line[4:]}"))
        said = len(self.sidecar.lines)
        applied = asyncio.get_running_loop().create_future()
        traffic = asyncio.create_task(self.caller.run(until=applied))
        try:
            await asyncio.sleep(0.2)
            self.mesh.file.write_text(self.mesh.with_detection)
            await self.sidecar.says(r"applied by \d+ worker|not valid", 10, since=said)
        finally:
            applied.set_result(None)
            tally = await traffic
        for line in self.sidecar.lines[said:]:
            screen.wrapped(line)
        screen.line(
            f"   {tally.total} requests were sent meanwhile: {sum(tally.status.values())} answered by a host, {len(tally.dropped)} dropped")
        self.look_for_trouble(tally)

    async def show_what_the_sidecar_says(self):
        admin = self.mesh.admin
        events = [json.loads(line) for line in self.sidecar.events]
        ejections = [event for event in events if event["action"] == "EJECT"]
        if not ejections:
            raise DemoError("the event log tells of no ejection")
        cluster = ejections[0]["cluster_name"]
        screen.heading("   What the sidecar says of it")
        screen.line(f"   The hosts are its cluster {cluster}.")
        screen.line(f"\n   curl http://127.0.0.1:{admin}/metrics      (\"...\" is the cluster)")
        wanted = (
            "envoy_cluster_outlier_detection_ejections_active", "envoy_cluster_outlier_detection_ejections_enforced_total",
            "envoy_cluster_lb_healthy_panic", "envoy_cluster_membership_total", "envoy_cluster_membership_healthy",
            "outrigger_host_ejected", "outrigger_panic_active")
        metrics = {}
        for line in (await self.sidecar.page(admin, "/metrics")).splitlines():
            name, _, rest = line.partition("{")
            if name in wanted and cluster in rest:
                metrics.setdefault(name, []).append(line)
        for name in wanted:
            for line in metrics.get(name, []):
                screen.clipped(line.replace(cluster, "..."))
        active = metrics.get(wanted[0], ["missing"])[0].split()[-1]
        if (active, len(ejections)) != ("3", 3):
            self.problems.append(f"three hosts should be ejected: {wanted[0]} is {active}, the event log tells of {len(ejections)}")

        screen.line(f"\n   curl http://127.0.0.1:{admin}/outliers      (without the events, which are above)")
        page, _, _ = (await self.sidecar.page(admin, "/outliers")).partition("\n\n")
        is_table = False
        for line in page.splitlines():
            is_table = is_table or line.lstrip().startswith("ENDPOINT")
            (screen.clipped if is_table else screen.wrapped)(line)

        screen.line(f"\n   {len(events)} events in the Sidecar's outlierEventLog, one JSON object a line; two of them:")
        for action in ("EJECT", "PANIC_ON"):
            position = next((place for place, event in enumerate(events) if event["action"] == action), None)
            if position is not None:
                screen.wrapped(self.sidecar.events[position], after=",")

    async def break_the_mesh(self):
        screen.heading(
            "5  The hosts are repaired, and somebody breaks the YAML",
            "Ejected hosts come back at the first sweep (every 30 s since detection was switched on) after",
            "their time. Meanwhile a wrong edit must change nothing.")
        for host in self.hosts:
            host.is_bad = False
        sweep_is_over = asyncio.get_running_loop().create_future()
        traffic = asyncio.create_task(self.caller.run(until=sweep_is_over, label="until the sweep: "))
        try:
            await asyncio.sleep(0.2)
            said = len(self.sidecar.lines)
            screen.event("in mesh.yaml a port is set to 70000")
            self.mesh.file.write_text(self.mesh.with_detection.replace("port: 8080", "port: 70000", 1))
            await self.sidecar.says("keeping the last good configuration|applied version", 10, since=said)
            await asyncio.sleep(0.1)
            for line in self.sidecar.lines[said:]:
                if "[outlier]" not in line:
                    screen.wrapped(line)
            if any("applied version" in line for line in self.sidecar.lines[said:]):
                self.problems.append("the broken mesh was applied")
            said = len(self.sidecar.lines)
            self.mesh.file.write_text(self.mesh.with_detection)
            await self.sidecar.says("the configuration did not", 10, since=said)
            screen.event("the edit is undone")
            await self.sidecar.says("PANIC_OFF", 35)
            await asyncio.sleep(1)
        finally:
            sweep_is_over.set_result(None)
            tally = await traffic
        failures = tally.total - tally.status[200]
        screen.line("   " + screen.bold(f"{tally.total} requests meanwhile, {failures} failures"))
        self.look_for_trouble(tally)
        if tally.status[500]:
            self.problems.append(f"{tally.status[500]} requests failed after the hosts were repaired")
        back = sum(json.loads(line)["action"] == "UNEJECT" for line in self.sidecar.events)
        if back != 3:
            self.problems.append(f"three hosts should have come back, {back} did")

    def summarize(self):
        """The table; true if all is as it should be."""
        screen.heading(f"Summary: answers 200 / 500 of {STEP} requests a step")
        screen.line(screen.dim(f"   {'':<40} {'App Mesh':^11}   {'measured':^11}"))
        for row in self.rows:
            screen.line(row.line())
        for problem in self.problems:
            screen.wrapped(problem, code="31")
        return not self.problems and all(row.is_right for row in self.rows)


def suggest(programs):
    usual = next((name for name in ("release", "debug") if (REPOSITORY / ".build" / name).resolve() == programs), None)
    screen.heading("What to try next")
    for command, what in [
        (f"export PATH=$PWD/.build/{usual}:$PATH" if usual else f"export PATH={programs}:$PATH", ""),
        ("outrigger validate -f mesh-config/colors", "every error at once"),
        ("outrigger render -f mesh-config/colors --node canvas", "what its sidecar will run"),
        ("outrigger run -f mesh-config/outlier-walkthrough --node frontend", "the sidecar of this demo"),
        ("docs/configuration.md", "every field"),
        ("docs/outlier-detection.md", "the rules seen above"),
        ("docs/metrics.md", "what to watch"),
    ]:
        screen.line(f"   {command:<67}{screen.dim(what)}".rstrip())


async def demo(programs, folder):
    screen.line(screen.bold("App Mesh's outlier detection walkthrough, for real"))
    screen.line(f"{HOSTS} hosts and one sidecar on loopback, {RATE} requests a second, {STEP} a step. It takes about 40 seconds.")
    hosts = [Host(number) for number in range(1, HOSTS + 1)]
    for host in hosts:
        await host.start()
    mesh = Mesh(folder, hosts)
    sidecar = Sidecar(programs, folder)
    sidecar.names = {f"127.0.0.1:{host.port}": host.name for host in hosts}
    caller = None
    try:
        await sidecar.start(mesh)
        screen.line(f"\n   hosts 1 to {HOSTS}: 127.0.0.1:{', :'.join(str(host.port) for host in hosts)}")
        screen.line(f"   {screen.bold('outrigger ' + ' '.join(sidecar.COMMAND))}   in {folder}")
        for line in sidecar.lines:
            screen.wrapped(line)
        caller = Caller(mesh.outbound)
        walkthrough = Walkthrough(hosts, mesh, sidecar, caller)
        await walkthrough.play()
        is_right = walkthrough.summarize()
        suggest(programs)
        return 0 if is_right else 1
    except DemoError as error:
        raise DemoError(f"{error}{sidecar.last_words()}") from None
    finally:
        screen.progress("")
        if caller:
            caller.close()
        await sidecar.stop()


async def main(programs):
    """Runs the demo; a signal ends it in good order, with the status that a shell would give."""
    loop, task, received = asyncio.get_running_loop(), asyncio.current_task(), []

    def interrupt(number):
        # Once: what follows is the cleaning up, which takes a few seconds at most.
        if not received:
            task.cancel()
        received.append(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupt, number)
    with tempfile.TemporaryDirectory(prefix="outrigger-demo-") as folder:
        try:
            return await demo(programs, Path(folder))
        except asyncio.CancelledError:
            return 128 + received[0]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print("usage: scripts/demo.py DIR   (scripts/demo builds the programs and names it)", file=sys.stderr)
        sys.exit(2)
    directory = Path(sys.argv[1]).resolve()
    for program in ("outrigger", "outrigger-proxy"):
        if not os.access(directory / program, os.X_OK):
            print(f"scripts/demo.py: {directory} has no program {program}", file=sys.stderr)
            sys.exit(2)
    try:
        sys.exit(asyncio.run(main(directory)))
    except DemoError as error:
        print(f"scripts/demo: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # Nobody reads on (`| head`). The interpreter would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
