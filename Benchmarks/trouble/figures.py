"""What came of one run, from what the caller and the hosts wrote down."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from .rows import Row, Spell, Times

#: An ejection is seen when no attempt comes for so long.
QUIET = 1.0
#: After a rush a call is well if it succeeds within this, in milliseconds.
WELL = 300.0


@dataclass(frozen=True)
class Call:
    due: float
    milliseconds: float
    #: The status, or why there is none.
    end: str

    @property
    def is_good(self) -> bool:
        return self.end == "200"


@dataclass(frozen=True)
class Attempt:
    host: int
    arrived: float
    #: When it was answered; None: never.
    answered: float | None
    status: int


@dataclass(frozen=True)
class Figures:
    """Seconds and milliseconds; None where there is nothing to say. Calls and latencies are those of calls due during the trouble."""

    calls: int
    #: In the whole run.
    failed: int
    #: Due when the trouble was over.
    failed_after: int
    #: Attempts on a host while it was in trouble; on one that was killed, those that could not be connected.
    hits: int
    #: In the whole run, failed ones too.
    over_500ms: int
    over_1s: int
    #: Of all calls; the percentiles of good ones.
    mean: float
    p50: float
    p99: float
    p999: float
    #: Attempts a call.
    attempts: float
    #: From the trouble's begin to the last hit before a second without any.
    out: float | None
    #: From the trouble's end to the first good answer of a host that was in it.
    back: float | None
    #: Good answers a second.
    goodput: float
    #: From the trouble's end to the last call that failed or took too long; None: to the end of the run.
    recovery: float | None
    #: Good and failed calls of each step.
    steps: tuple[tuple[int, int], ...]


def percentile(values: list[float], share: float) -> float:
    return values[max(0, math.ceil(len(values) * share) - 1)] if values else math.nan


def figures(row: Row, times: Times, calls: list[Call], attempts: list[Attempt], retries: int) -> Figures:
    """`retries` as the proxy counts them: what never reached a host is in no host's log."""
    spells = row.spells(times)
    during = [call for call in calls if times.begin <= call.due < times.end]
    good = sorted(call.milliseconds for call in during if call.is_good)
    ours = [attempt for attempt in attempts if attempt.arrived >= 0]
    hits = [attempt.arrived for attempt in ours if any(holds(spell, attempt) for spell in spells)]
    unreached = max(0, len(calls) + retries - len(ours)) if any(spell.kind is None for spell in spells) else 0
    ill = {spell.host for spell in spells}
    back = [at.answered for at in ours if at.host in ill and at.status == 200 and at.answered and at.arrived >= times.end]
    late = [call.due for call in calls if call.due >= times.end and not (call.is_good and call.milliseconds <= WELL)]
    answers = [call for call in calls if call.is_good and times.begin <= call.due + call.milliseconds / 1000 < times.end]
    return Figures(
        calls=len(during),
        failed=sum(not call.is_good for call in calls),
        failed_after=sum(not call.is_good for call in calls if call.due >= times.end),
        hits=len(hits) + unreached,
        over_500ms=sum(call.milliseconds > 500 for call in calls),
        over_1s=sum(call.milliseconds > 1000 for call in calls),
        mean=sum(call.milliseconds for call in during) / max(1, len(during)),
        p50=percentile(good, 0.5),
        p99=percentile(good, 0.99),
        p999=percentile(good, 0.999),
        attempts=(sum(times.begin <= attempt.arrived < times.end for attempt in ours) + unreached) / max(1, len(during)),
        out=ejection(sorted(hits), spells),
        back=min(back) - times.end if back else None if ill and times.end < times.over else math.nan,
        goodput=len(answers) / (times.end - times.begin),
        steps=tuple(counts(calls, times.over / row.steps, number) for number in range(row.steps)),
        recovery=None if late and late[-1] > times.over - QUIET else max(late) - times.end if late else 0,
    )


def counts(calls: list[Call], length: float, number: int) -> tuple[int, int]:
    ends = [call.is_good for call in calls if number * length <= call.due < (number + 1) * length]
    return sum(ends), len(ends) - sum(ends)


def holds(spell: Spell, attempt: Attempt) -> bool:
    return attempt.host == spell.host and spell.begin <= attempt.arrived < spell.end


def ejection(hits: list[float], spells: list[Spell]) -> float | None:
    """For one host that is in trouble once, and reached. None if attempts went on."""
    if len(spells) != 1 or not hits:
        return math.nan
    for hit, following in zip(hits, [*hits[1:], math.inf]):
        if following - hit > QUIET and hit + QUIET < spells[0].end:
            return hit - spells[0].begin
    return None


#: How each figure is written, and what it is called.
NAMES = {
    "calls": ("calls", "{:d}"),
    "failed": ("failed", "{:d}"),
    "failed_after": ("failed after", "{:d}"),
    "hits": ("hits", "{:d}"),
    "over_500ms": ("over 0.5 s", "{:d}"),
    "over_1s": ("over 1 s", "{:d}"),
    "mean": ("mean, ms", "{:.1f}"),
    "p50": ("p50, ms", "{:.1f}"),
    "p99": ("p99, ms", "{:.1f}"),
    "p999": ("p99.9, ms", "{:.1f}"),
    "attempts": ("attempts a call", "{:.2f}"),
    "out": ("out after, s", "{:.2f}"),
    "back": ("back after, s", "{:.2f}"),
    "goodput": ("good a second", "{:.1f}"),
    "recovery": ("recovery, s", "{:.2f}"),
    "steps": ("good/failed", "{}"),
}
assert list(NAMES) == [field.name for field in fields(Figures)]


def text(name: str, value: float | tuple[tuple[int, int], ...] | None) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"{good}/{failed}" for good, failed in value) or "–"
    if value is not None and math.isnan(value):
        return "–"
    return "never" if value is None else NAMES[name][1].format(value)
