"""A program that is shown: what it says, how it begins and ends."""

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import socket

from .screen import DemoError


class Program:
    """A program that goes on running; all that it says is kept."""

    def __init__(self, path, words, folder, environment=None):
        """`folder` is where it is started; `environment` is added to ours."""
        self.path = path
        self.command = words
        self.folder = folder
        self.environment = environment or {}
        self.process = None
        self.lines = []
        self.spoke = asyncio.Condition()

    async def spawn(self):
        self.lines = []
        # A session of its own: Ctrl-C is for us, and we end it in good order. Should we die without a chance to do so, the kernel
        # asks it to end.
        prctl = ctypes.CDLL(None).prctl
        self.process = await asyncio.create_subprocess_exec(
            self.path, *self.command, cwd=self.folder, env={**os.environ, **self.environment},
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            start_new_session=True, preexec_fn=lambda: prctl(1, signal.SIGTERM, 0, 0, 0))  # PR_SET_PDEATHSIG
        self.reading = [asyncio.create_task(self.read_lines())]

    async def read_lines(self):
        while line := await self.process.stderr.readline():
            async with self.spoke:
                self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                self.spoke.notify_all()
        async with self.spoke:
            self.spoke.notify_all()

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
            raise DemoError(f"{self.path.name} did not say \"{pattern}\" within {timeout} s") from None
        if not line:
            raise DemoError(f"{self.path.name} ended")
        return line

    @property
    def has_ended(self):
        return self.process is not None and self.process.returncode is not None

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
        for task in self.reading:
            task.cancel()
        self.process = None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
