"""What every act has: hosts, sidecars, a caller, the steps that they play, and what went wrong."""

import asyncio
from collections import Counter
from dataclasses import dataclass

from .screen import DemoError, screen
from .traffic import HOSTS, STEP, Host, Tally


@dataclass
class Row:
    """One step: what is expected, what was measured, and how far they may be apart."""

    title: str
    expected: str
    least: int  # answers 200
    most: int
    source: str = "App Mesh's walkthrough"
    tally: Tally = None
    count: int = STEP

    @property
    def is_right(self):
        tally = self.tally
        return self.least <= tally.status[200] <= self.most and sum(tally.status.values()) == self.count and not tally.dropped

    @classmethod
    def of_all(cls, title, tally):
        """As many requests as there were, and each of them answered 200."""
        return cls(title, "all / 0  ", tally.total, tally.total, tally=tally, count=tally.total)

    def line(self):
        verdict = screen.green("as expected") if self.is_right else screen.red("NOT AS EXPECTED")
        status = self.tally.status
        return f"   {self.title:<40} {self.expected:^11}   {f'{status[200]:>3} / {status[500]:<3}':^11}   {verdict}"


class Stage:
    """One act. A subclass says in `set_up` what there is (it returns the caller), and in `play` what happens."""

    def __init__(self, programs, folder):
        self.programs = programs
        self.folder = folder
        self.hosts = [Host(f"host {number}") for number in range(1, HOSTS + 1)]
        self.sidecars = []
        self.caller = None
        self.rows = []
        self.problems = []

    async def perform(self):
        """Plays the act and cleans up, whatever happens."""
        try:
            for host in self.hosts:
                await host.start()
            self.caller = await self.set_up()
            await self.play()
        except DemoError as error:
            words = "".join(sidecar.last_words() for sidecar in self.sidecars[-1:])
            raise DemoError(f"{error}{words}") from None
        finally:
            screen.progress("")
            if self.caller:
                self.caller.close()
            await asyncio.gather(*(sidecar.stop() for sidecar in self.sidecars))
            for host in self.hosts:
                host.stop()

    async def step(self, title, why, row):
        screen.heading(title, *why)
        before = [Counter(host.answers) for host in self.hosts]
        row.tally = await self.caller.run(count=STEP)
        self.rows.append(row)
        width = max(len(host.name) for host in self.hosts)
        for host, old in zip(self.hosts, before):
            new = host.answers - old
            good, bad = new[200], new[500]
            bars = screen.green(screen.bar(good, STEP)) + screen.red(screen.bar(bad, STEP))
            screen.line(f"   {host.name:<{width}} {good + bad:>5} requests  {bars}{'  answers 500' if host.is_bad else ''}")
        answers = f"{row.tally.status[200]} x 200, {row.tally.status[500]} x 500"
        good, _, bad = row.expected.split()
        screen.line(f"   {screen.bold(answers)}   ({row.source}: {good} x 200, {bad} x 500)")
        self.look_for_trouble(row.tally)

    async def while_requests_go_on(self, action, label=""):
        """Calls the service until `action` is done; what became of the requests."""
        is_done = asyncio.get_running_loop().create_future()
        traffic = asyncio.create_task(self.caller.run(until=is_done, label=label))
        try:
            await asyncio.sleep(0.2)
            await action
        finally:
            # If it was never begun; else nothing.
            action.close()
            is_done.set_result(None)
            tally = await traffic
        return tally

    def look_for_trouble(self, tally):
        if tally.dropped:
            self.problems.append(f"{len(tally.dropped)} requests were not answered by a host; the first: {tally.dropped[0]}")
            screen.wrapped(self.problems[-1], code="31")
        for sidecar in self.sidecars:
            if died := next((line for line in sidecar.lines if "starting it again" in line), None):
                raise DemoError(died)
            if sidecar.has_ended:
                raise DemoError(f"{sidecar.path.name} ended by itself{sidecar.last_words()}")


def summarize(stages):
    """The table of all steps; true if all is as it should be."""
    screen.heading(f"Summary: answers 200 / 500 of {STEP} requests a step; where it says \"all\", of as many as there were")
    screen.line(screen.dim(f"   {'':<40} {'expected':^11}   {'measured':^11}"))
    for stage in stages:
        for row in stage.rows:
            screen.line(row.line())
    for stage in stages:
        for problem in stage.problems:
            screen.wrapped(problem, code="31")
    return all(not stage.problems and all(row.is_right for row in stage.rows) for stage in stages)
