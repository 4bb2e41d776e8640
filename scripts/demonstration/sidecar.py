"""The programs that are shown: `outrigger run`, which runs outrigger-proxy."""

import asyncio
import contextlib
import ctypes
import json
import os
import re
import signal
import socket
from pathlib import Path

from .screen import DemoError, screen


class Sidecar:
    """`outrigger run`, which runs outrigger-proxy; what both say, and the events that they log."""

    def __init__(self, programs, folder, files, node, names=None):
        """`files` with the YAML are in `folder`; `names` says how an endpoint of the event log is called, if there is one."""
        self.programs = programs
        self.folder = folder
        self.command = ["run", "-f", *files, "--node", node]
        self.names = names
        # For the snapshot that the two programs share.
        self.runtime = folder / f"run-{Path(files[-1]).stem}-{node}"
        self.process = None
        self.lines = []
        self.spoke = asyncio.Condition()
        self.events = []

    async def start(self, take_ports):
        """`take_ports` writes the YAML with free ports. Returns when the sidecar serves."""
        # Another program may take a port that we found free: find others.
        for _ in range(5):
            take_ports()
            await self.spawn()
            try:
                line = await self.says(r"applied by \d+ worker|cannot listen|cannot start|is not valid", 15)
            except DemoError as error:
                raise DemoError(f"the sidecar did not start: {error}{self.last_words()}") from None
            if "applied by" in line:
                return
            await self.stop()
        raise DemoError(f"the sidecar did not start:{self.last_words()}")

    async def spawn(self):
        self.lines = []
        # A session of its own: Ctrl-C is for us, and we end it in good order. Should we die without a chance to do so, the kernel
        # asks it to end.
        prctl = ctypes.CDLL(None).prctl
        self.runtime.mkdir(exist_ok=True)
        self.process = await asyncio.create_subprocess_exec(
            self.programs / "outrigger", *self.command, cwd=self.folder, env={**os.environ, "XDG_RUNTIME_DIR": str(self.runtime)},
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            start_new_session=True, preexec_fn=lambda: prctl(1, signal.SIGTERM, 0, 0, 0))  # PR_SET_PDEATHSIG
        self.reading = [asyncio.create_task(self.read_lines())]
        if self.names is not None:
            self.reading.append(asyncio.create_task(self.read_events()))

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
        """The proxy that is still there, if `outrigger run` ended without it. It runs a snapshot in our runtime folder."""
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if words[0].endswith(b"/outrigger-proxy") and any(word.startswith(bytes(self.runtime) + b"/") for word in words):
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


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
