"""Tables of figures, and what the bounds say to them."""

from __future__ import annotations

from dataclasses import dataclass

from .figures import NAMES, Figures, text
from .profiles import Profile
from .rows import Row

#: Of several rounds the one with the least counts, not the one with the most.
LEAST_IS_WORST = {"goodput"}


@dataclass(frozen=True)
class Verdict:
    row: str
    profile: str
    what: str
    value: str
    holds: bool


def worst(results: list[dict], row: str, profile: str) -> dict[str, float | None] | str:
    """Each figure of the worst round; None is worse than any number. Or why there are none."""
    rounds = [result["found"] for result in results if (result["row"], result["profile"]) == (row, profile)]
    for found in rounds:
        if isinstance(found, str):
            return found
    figures: list[Figures] = rounds

    def choose(name: str) -> float | None:
        values = [getattr(found, name) for found in figures]
        return values[-1] if name == "steps" else None if None in values else (min if name in LEAST_IS_WORST else max)(values)

    return {name: choose(name) for name in NAMES} if figures else "not measured"


def judged(rows: list[Row], profiles: list[Profile], results: list[dict]) -> list[Verdict]:
    """The bounds of each row against the profiles that must keep them."""
    verdicts = []
    for profile in profiles:
        if not profile.is_judged:
            continue
        for row in rows:
            found = worst(results, row.name, profile.name)
            if isinstance(found, str):
                verdicts.append(Verdict(row.name, profile.name, "measured", found, False))
                continue
            for bound in row.bounds:
                value = found[bound.figure]
                what = f"{NAMES[bound.figure][0]} {bound}"
                verdicts.append(Verdict(row.name, profile.name, what, text(bound.figure, value), bound.holds(value)))
            # A second burst of errors after the trouble would be ours.
            verdicts.append(
                Verdict(row.name, profile.name, "failed after the trouble ≤ 0", text("failed_after", found["failed_after"]),
                        found["failed_after"] == 0 or row.name == "overload")
            )  # fmt: skip
            bare = worst(results, row.name, "none")
            if row.halves_mean and not isinstance(bare, str):
                what = f"mean ≤ half of {bare['mean']:.0f} ms without policy"
                verdicts.append(Verdict(row.name, profile.name, what, text("mean", found["mean"]), found["mean"] * 2 <= bare["mean"]))
    return verdicts


def table(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *lines])


def summary(rows: list[Row], profiles: list[Profile], results: list[dict]) -> str:
    """A line for each row, a cell for each proxy: what failed, and what this trouble is about."""
    lines = []
    for row in rows:
        cells = [row.title]
        for profile in profiles:
            found = worst(results, row.name, profile.name)
            if isinstance(found, str):
                cells.append("**no figures**")
            else:
                cells.append(", ".join(phrase(name, found[name]) for name in ([] if row.steps else ["failed"]) + row.headline))
        lines.append(cells)
    return table(["trouble", *(profile.name for profile in profiles)], lines)


def phrase(name: str, value: float | None) -> str:
    """`5 hits`, `p99 9.1 ms`, `back after 0.02 s`."""
    if name == "steps":
        return text(name, value)
    if value is None:
        return {"out": "never out", "back": "never back", "recovery": "no recovery"}[name]
    title, _, unit = NAMES[name][0].partition(", ")
    if isinstance(value, int) and not unit:
        return f"{value} {title}"
    return f"{title} {text(name, value)}" + (f" {unit}" if unit else "")


def details(row: Row, profiles: list[Profile], results: list[dict]) -> str:
    lines = []
    for profile in profiles:
        found = worst(results, row.name, profile.name)
        if isinstance(found, str):
            lines.append([profile.name, found, *[""] * (len(NAMES) - 1)])
        else:
            lines.append([profile.name, *(text(name, found[name]) for name in NAMES)])
    return f"### {row.name}: {row.title}\n\n" + table(["", *(title for title, _ in NAMES.values())], lines)


def markdown(rows: list[Row], profiles: list[Profile], results: list[dict], verdicts: list[Verdict]) -> str:
    parts = [summary(rows, profiles, results), *(details(row, profiles, results) for row in rows)]
    if verdicts:
        lines = [[one.row, one.profile, one.what, one.value, "pass" if one.holds else "**FAIL**"] for one in verdicts]
        parts.append(table(["row", "profile", "bound", "measured", ""], lines))
        failed = sum(not one.holds for one in verdicts)
        parts.append(f"{len(verdicts) - failed} of {len(verdicts)} bounds hold." if failed else "All bounds hold.")
    return "\n\n".join(parts)
