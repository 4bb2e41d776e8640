"""`outrigger run`, which runs outrigger-proxy, and what it says of its endpoints."""

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path

from .program import Program
from .screen import DemoError, screen


class Sidecar(Program):
    """`outrigger run`, which runs outrigger-proxy; what both say, and the events that they log."""

    def __init__(self, programs, folder, files, node, names=None):
        """`files` with the YAML are in `folder`; `names` says how an endpoint of the event log is called, if there is one."""
        # For the snapshot that the two programs share.
        self.runtime = folder / f"run-{Path(files[-1]).stem}-{node}"
        super().__init__(programs / "outrigger", ["run", "-f", *files, "--node", node], folder, {"XDG_RUNTIME_DIR": str(self.runtime)})
        self.names = names
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
        self.runtime.mkdir(exist_ok=True)
        await super().spawn()
        if self.names is not None:
            self.reading.append(asyncio.create_task(self.read_events()))

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

    async def stop(self):
        await super().stop()
        for proxy in self.orphans():
            with contextlib.suppress(ProcessLookupError):
                os.kill(proxy, signal.SIGKILL)

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
