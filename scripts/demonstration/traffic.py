"""The service's hosts, and the application that calls them. Both count."""

import asyncio
import re
import time
from collections import Counter, deque
from dataclasses import dataclass, field

from .screen import screen

AUTHORITY = "colors.walkthrough"
HOSTS = 4
RATE = 50  # requests a second
STEP = 200  # requests
CONNECTIONS = 8  # Enough that both workers of the sidecar get some.


class Host:
    """One host of the service. It answers 200, or 500 while it is bad, and counts."""

    def __init__(self, name, address="127.0.0.1", port=0):
        self.name = name
        self.address = address
        self.port = port  # 0: any that is free
        self.is_bad = False
        self.answers = Counter()  # by status
        self.heard = ""  # the last request
        self.server = None

    async def start(self):
        self.server = await asyncio.start_server(self.serve, self.address, self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    def stop(self):
        if self.server:
            self.server.close()

    async def serve(self, reader, writer):
        try:
            while True:
                self.heard = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")  # The caller sends no bodies.
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
    failures: Counter = field(default_factory=Counter)  # All but answers 200, by the place that was called.

    @property
    def total(self):
        return sum(self.status.values()) + len(self.dropped)


class Caller:
    """The application: calls the service through its sidecar, 50 times a second, whether answers come or not (open loop).

    With several sidecars it stands beside each of them, and they take turns.
    """

    def __init__(self, places, authority):
        """`places` are the (address, port) of sidecars; `authority` is the service."""
        self.places = deque(places)
        self.authority = authority
        self.idle = {place: deque() for place in places}
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
        place = self.places[0]
        self.places.rotate(-1)
        try:
            status, came_from_host, text = await asyncio.wait_for(self.exchange(place), 5)
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            tally.failures[place] += 1
            tally.dropped.append(f"{type(error).__name__}: {error}")
            return
        tally.failures[place] += status != 200
        if came_from_host:
            tally.status[status] += 1
        else:
            tally.dropped.append(f"the sidecar answered {status}: {text}")

    async def exchange(self, place):
        # Several connections in turn.
        if len(self.idle[place]) >= CONNECTIONS:
            reader, writer = self.idle[place].popleft()
        else:
            reader, writer = await asyncio.open_connection(*place)
            self.open.add(writer)
        try:
            writer.write(f"GET / HTTP/1.1\r\nHost: {self.authority}\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = re.search(r"\r\ncontent-length: *(\d+)", head)
            if not length:
                raise ValueError("a response without content-length")
            body = await reader.readexactly(int(length[1]))
        except BaseException:
            self.open.discard(writer)
            writer.close()
            raise
        self.idle[place].append((reader, writer))
        return int(head.split(" ", 2)[1]), "\r\nx-host:" in head, body.decode("latin-1").strip()

    def close(self):
        for writer in list(self.open):
            writer.close()
