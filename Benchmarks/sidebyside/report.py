"""Figures of all rounds to a table for people and JSON for machines."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from .measure import DIRECT
from .scenarios import BASES, GROUPS, PLAIN_BASES, Row, Scenario

#: Whom "the best" is chosen from.
FIELD = ("nginx", "haproxy", "nghttpx", "envoy")


@dataclass
class Results:
    """Measurements by scenario, peer and round. A round that failed is None, so that rounds of two peers stay comparable."""

    rounds: dict[tuple[str, str], list[dict[str, float] | None]] = field(default_factory=dict)
    failures: list[dict[str, object]] = field(default_factory=list)
    calls: dict[tuple[str, str], float] = field(default_factory=dict)

    def add(self, scenario: Scenario, peer: str, number: int, figures: dict[str, float]) -> None:
        self.rounds.setdefault((scenario.name, peer), []).append(figures)

    def fail(self, scenario: Scenario, peer: str, number: int, reason: str) -> None:
        self.rounds.setdefault((scenario.name, peer), []).append(None)
        self.failures.append({"scenario": scenario.name, "peer": peer, "round": number, "reason": reason})

    def figures(self, scenario: Scenario, row: Row, peer: str) -> list[float] | None:
        """One figure a round, or None if a round failed: the proxy has no figure then."""
        name = row.figure or row.key
        rounds = self.rounds.get((scenario.name, peer), [])
        if not rounds or any(figures is None for figures in rounds):
            return None
        if row.over_direct:
            direct = self.rounds.get((scenario.name, DIRECT), [])
            if len(direct) != len(rounds) or any(figures is None for figures in direct):
                return None
            return [ours[name] - base[name] for ours, base in zip(rounds, direct)]
        return [figures[name] for figures in rounds]

    def best(self, scenario: Scenario, row: Row) -> str | None:
        """The peer with the lowest median."""
        medians = {peer: median(figures) for peer in FIELD if (figures := self.figures(scenario, row, peer))}
        return min(medians, key=medians.__getitem__, default=None)

    def ratio(self, scenario: Scenario, row: Row, peer: str, base: str) -> float | None:
        """The median over the rounds of this peer's figure divided by the other's in the same round."""
        other = self.best(scenario, row) if base == "best" else base
        ours, theirs = self.figures(scenario, row, peer), self.figures(scenario, row, other) if other else None
        if row.over_direct or ours is None or theirs is None or any(figure <= 0 for figure in theirs):
            return None
        return median(a / b for a, b in zip(ours, theirs))


def number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 1 else f"{value:.2f}"


def table(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *lines])


def ratio_table(results: Results, scenarios: list[Scenario], peers: list[str], bases: tuple[str, str]) -> str | None:
    lines = []
    for scenario in scenarios:
        for row in scenario.rows:
            if scenario.bases != bases or row.over_direct:
                continue
            best = results.best(scenario, row) if "best" in bases else None
            line = [f"{row.title} ({best or 'no peer'})" if "best" in bases else row.title]
            for peer in peers:
                pair = [results.ratio(scenario, row, peer, base) for base in bases]
                line.append("–" if pair == [None, None] else " / ".join("–" if value is None else f"{value:.2f}" for value in pair))
            lines.append(line)
    if not lines:
        return None
    names = ["the best peer (in brackets)" if base == "best" else base.capitalize() if base == "envoy" else base for base in bases]
    return f"Ratio to {names[0]} / to {names[1]} in the same round, median:\n\n" + table(["scenario", *peers], lines)


def markdown(results: Results, scenarios: list[Scenario], peers: list[str], settings: str, machine: str, versions: dict[str, str]) -> str:
    cells, busy = [], []
    for scenario in scenarios:
        for row in scenario.rows:
            line = [row.title, row.unit]
            for peer in peers:
                figures = results.figures(scenario, row, peer)
                if figures:
                    line.append(f"{number(median(figures))} [{number(min(figures))}]")
                else:
                    line.append("**failed**" if (scenario.name, peer) in results.rounds else "–")
            cells.append(line)
        if scenario.kind == "load" and not scenario.rate:
            line = [scenario.name]
            for peer in peers:
                rounds = [figures for figures in results.rounds.get((scenario.name, peer), []) if figures]
                if rounds:
                    rate, used, waited = (median(figures[key] for figures in rounds) for key in ("rate", "busy", "waited"))
                    line.append(f"{rate:,.0f} · {used:.0%} · {waited:.0%}")
                else:
                    line.append("–")
            busy.append(line)
    parts = [f"{machine}\n{settings}\n" + ", ".join(f"{name} {version}" for name, version in versions.items()) + "."]
    parts.append("Median [minimum] of the rounds:\n\n" + table(["scenario", "unit", *peers], cells))
    parts += [text for bases in (PLAIN_BASES, BASES) if (text := ratio_table(results, scenarios, peers, bases))]
    if busy:
        parts.append("Requests a second · share of its CPU used · share waited for the CPU:\n\n" + table(["scenario", *peers], busy))
    if results.calls:
        names = [scenario.name for scenario in scenarios if any((scenario.name, peer) in results.calls for peer in peers)]
        lines = [
            [name, *(f"{results.calls[name, peer]:.2f}" if (name, peer) in results.calls else "–" for peer in peers)]
            for name in names
        ]
        parts.append("System calls per request:\n\n" + table(["scenario", *peers], lines))
    for failure in results.failures:
        parts.append(f"FAILED: {failure['peer']}, {failure['scenario']}, round {failure['round']}: {failure['reason']}")
    return "\n\n".join(parts)


def as_json(results: Results, scenarios: list[Scenario], peers: list[str]) -> dict[str, object]:
    rows = []
    groups = {scenario.name: group for group, members in GROUPS.items() for scenario in members}
    for scenario in scenarios:
        for row in scenario.rows:
            cells = {}
            for peer in peers:
                if (scenario.name, peer) not in results.rounds:
                    continue
                figures = results.figures(scenario, row, peer)
                cells[peer] = {
                    "median": median(figures) if figures else None,
                    "minimum": min(figures) if figures else None,
                    "rounds": figures,
                    "ratios": {base: results.ratio(scenario, row, peer, base) for base in scenario.bases},
                }
            rows.append(
                {
                    "group": groups[scenario.name], "scenario": scenario.name, "row": row.key, "title": row.title, "unit": row.unit,
                    "bases": scenario.bases, "best": results.best(scenario, row), "peers": cells,
                }
            )  # fmt: skip
    return {
        "rows": rows,
        "measurements": [
            {"scenario": scenario, "peer": peer, "rounds": rounds} for (scenario, peer), rounds in results.rounds.items()
        ],
        "callsPerRequest": [{"scenario": scenario, "peer": peer, "calls": calls} for (scenario, peer), calls in results.calls.items()],
        "failures": results.failures,
    }  # fmt: skip
