"""The kinds of trouble, and what the standard policy must make of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Times:
    """Seconds from the first call: when trouble comes, when it goes, when the last call is due."""

    begin: float
    end: float
    over: float

    @staticmethod
    def lasting(seconds: float, longer: float = 1) -> Times:
        """Half as long is calm before, as long (or `longer` times that) is calm after."""
        return Times(seconds / 2, seconds / 2 + seconds, seconds / 2 + seconds + seconds * longer)


@dataclass(frozen=True)
class Spell:
    """A time in which one host is in trouble."""

    host: int
    begin: float
    end: float
    #: As trouble/host.c reads it; None: nobody listens.
    kind: str | None


@dataclass(frozen=True)
class Bound:
    #: Of `figures.Figures`.
    figure: str
    limit: float
    is_least: bool = False

    def holds(self, value: float | None) -> bool:
        return value is not None and (value >= self.limit if self.is_least else value <= self.limit)

    def __str__(self) -> str:
        return f"{'≥' if self.is_least else '≤'} {self.limit:g}"


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    spells: Callable[[Times], list[Spell]]
    bounds: list[Bound]
    #: What the summary says of each proxy.
    headline: list[str]
    hosts: int = 5
    rates: Callable[[Times], list[tuple[float, float]]] = lambda times: [(0, 200)]
    #: As trouble/host.c reads it.
    service: str = "usual"
    #: Time after the trouble, in times of it.
    after: float = 1
    #: The mean latency of callers must be at most half of what it is without any policy.
    halves_mean: bool = False
    #: Instead of those that the command line asks for.
    times: Times | None = None
    #: App Mesh's walkthrough: proxies have its settings, calls come at equal distances, and steps are counted one by one.
    steps: int = 0


def one_host(kind: str | None) -> Callable[[Times], list[Spell]]:
    return lambda times: [Spell(0, times.begin, times.end, kind)]


def flapping(times: Times) -> list[Spell]:
    """Two hosts, a fifth of the time bad, a fifth good, beginning and ending with bad."""
    fifth = (times.end - times.begin) / 5
    starts = [times.begin + 2 * number * fifth for number in range(3)]
    return [Spell(host, start, start + fifth, "500") for start in starts for host in (0, 1)]


def rush(times: Times) -> list[tuple[float, float]]:
    return [(0, 100), (times.begin, 400), (times.end, 100)]


def walkthrough(times: Times) -> list[Spell]:
    """With each step one more host is bad."""
    length = times.end / 3
    return [Spell(host, host * length, times.end, "500") for host in range(3)]


NONE_FAILED = Bound("failed", 0)

ROWS = [
    Row(
        "errors", "a host answers 500", one_host("500"), [NONE_FAILED, Bound("hits", 5), Bound("p999", 15)], ["hits", "p999"],
    ),
    Row(
        "half", "every second answer of a host is a 500", one_host("half"), [NONE_FAILED, Bound("out", 1.5), Bound("back", 3)],
        ["hits", "out", "back"],
    ),
    Row("hang", "a host hangs", one_host("hang"), [NONE_FAILED, Bound("over_1s", 5)], ["over_1s", "mean", "p99"], halves_mean=True),
    Row(
        "slow", "a host answers in 2 s", one_host("slow=2000"), [NONE_FAILED, Bound("hits", 10), Bound("p99", 10)],
        ["hits", "mean", "p99"], halves_mean=True,
    ),
    Row(
        "gray", "a host answers in 0.6 s", one_host("slow=600"), [NONE_FAILED, Bound("over_500ms", 17), Bound("p99", 20)],
        ["over_500ms", "mean", "p99"], halves_mean=True,
    ),
    Row(
        "killed", "a host is killed", one_host(None), [NONE_FAILED, Bound("hits", 5), Bound("back", 1)], ["hits", "p999", "back"],
    ),
    Row(
        "flap", "two hosts flap, 2 s bad and 2 s good", flapping, [NONE_FAILED, Bound("hits", 60), Bound("p99", 18)], ["hits", "p99"],
    ),
    Row(
        "overload", "all are overloaded: 400 calls a second over a capacity of 250, then 100", lambda times: [],
        [Bound("goodput", 245, is_least=True), Bound("p99", 300), Bound("recovery", 1), Bound("attempts", 1.1)],
        ["goodput", "p99", "recovery", "attempts"], rates=rush, service="20", after=1.5,
    ),
    Row(
        "walkthrough", "App Mesh's walkthrough: one of four hosts bad, two, three; 200 calls each, good/failed", walkthrough, [],
        ["steps"], hosts=4, rates=lambda times: [(0, 50)], times=Times(0, 12, 12), steps=3,
    ),
]  # fmt: skip
