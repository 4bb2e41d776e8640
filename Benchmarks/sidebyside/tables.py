"""The JSON of a run as the tables of a page: printed, or put between the marks that the page has for them.

    <!-- figures: GROUP GROUP -->
    whatever stood here is replaced
    <!-- end of figures -->
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from .report import number, table
from .scenarios import GROUPS

TITLES = {"floor": "floor", "nginx": "nginx", "haproxy": "HAProxy", "nghttpx": "nghttpx", "envoy": "Envoy"}

#: Issue 3 is done when every scenario costs less than this part of what Envoy costs in the same round.
GOAL = 0.5


def cells(document: dict, rows: list[dict], peers: list[str]) -> list[list[str]]:
    """Medians, the best of them bold; the floor takes no part in that."""
    lines = []
    for row in rows:
        medians = {peer: row["peers"].get(peer, {}).get("median") for peer in peers}
        least = min((value for peer, value in medians.items() if value is not None and peer != "floor"), default=None)
        line = [row["title"], row["unit"]]
        for peer in peers:
            value = medians[peer]
            if value is None:
                line.append("failed" if peer in row["peers"] else "–")
            else:
                line.append(f"**{number(value)}**" if value == least else number(value))
        lines.append(line)
    return lines


def ratios(rows: list[dict], peers: list[str], bases: list[str]) -> list[list[str]]:
    lines = []
    for row in rows:
        if row["bases"] != bases:
            continue
        pairs = {peer: [row["peers"].get(peer, {}).get("ratios", {}).get(base) for base in bases] for peer in peers}
        if not any(value is not None for pair in pairs.values() for value in pair):
            continue
        title = row["title"].partition(":")[0] + (f" (best: {TITLES[row['best']]})" if "best" in bases and row["best"] else "")
        lines.append([title, *(ratio_cell(pair) for pair in pairs.values())])
    return lines


def ratio_cell(pair: list[float | None]) -> str:
    return " / ".join("–" if value is None else f"{value:.2f}" for value in pair) if any(pair) else "–"


def group_tables(document: dict, groups: list[str]) -> str:
    rows = [row for row in document["rows"] if row["group"] in groups]
    present = [peer for peer in document["versions"] if any(peer in row["peers"] for row in rows)]
    names = [TITLES.get(peer, peer) for peer in present]
    parts = [table(["scenario (median)", "unit", *names], cells(document, rows, present))]
    for bases in (["floor", "nginx"], ["best", "envoy"]):
        shown = [peer for peer in present if peer not in ("floor", "nginx")] if bases[0] == "best" else [p for p in present if p != "floor"]
        if lines := ratios(rows, shown, bases):
            what = "to the best peer / to Envoy" if bases[0] == "best" else "to floor / to nginx"
            head = [f"ratio {what} in the same round, median", *(TITLES.get(peer, peer) for peer in shown)]
            parts.append(table(head, lines))
    calls = {(entry["scenario"], entry["peer"]): entry["calls"] for entry in document["callsPerRequest"]}
    scenarios = list(dict.fromkeys(row["scenario"] for row in rows))
    lines = [
        [name, *(f"{calls[name, peer]:.2f}" if (name, peer) in calls else "–" for peer in present)]
        for name in scenarios
        if any((name, peer) in calls for peer in present)
    ]
    if lines:
        parts.append(table(["system calls a request", *names], lines))
    return "\n\n".join(parts)


def heading(document: dict) -> str:
    versions = (f"{TITLES[peer]} {version}" for peer, version in document["versions"].items() if peer in TITLES and peer != "floor")
    return f"{document['machine']} {document['settings']} {', '.join(versions)}."


def wrapped(text: str, width: int = 138) -> str:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return "\n".join(lines)


def goal(document: dict) -> list[str]:
    """What misses the goal, as lines for people."""
    missed = []
    for row in document["rows"]:
        for peer, cell in row["peers"].items():
            if peer in TITLES or row["unit"] != "CPU µs/request":
                continue
            ratio = cell.get("ratios", {}).get("envoy")
            if cell["median"] is None or (ratio is not None and ratio >= GOAL):
                missed.append(f"{row['row']}, {peer}: " + ("failed" if cell["median"] is None else f"{ratio:.2f} of Envoy's"))
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(prog="Benchmarks/tables", description="Tables from the JSON of Benchmarks/run.")
    parser.add_argument("figures", type=Path, help="the file that Benchmarks/run --json wrote")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="replace what stands between the marks of PAGE; else print")
    given = parser.parse_args()
    document = json.loads(given.figures.read_text())
    measured = {row["group"] for row in document["rows"]}

    def section(groups: list[str]) -> str:
        return f"{wrapped(heading(document))}\n\n{group_tables(document, groups)}"

    if given.into:
        filled: set[str] = set()

        def fill(found: re.Match[str]) -> str:
            groups = found.group(2).split()
            if not measured & set(groups):
                return found.group(0)
            filled.update(groups)
            return f"{found.group(1)}\n{section(groups)}\n\n{found.group(3)}"

        page = re.sub(r"(<!-- figures: ([\w ]+) -->\n).*?(<!-- end of figures -->)", fill, given.into.read_text(), flags=re.DOTALL)
        if measured - filled:
            print(f"{given.into}: no <!-- figures: ... --> for {', '.join(sorted(measured - filled))}", file=sys.stderr)
            return 1
        given.into.write_text(page)
    else:
        sections = [sorted(measured & {"plain"}), [group for group in GROUPS if group in measured - {"plain"}]]
        print("\n\n".join(section(groups) for groups in sections if groups))
    missed = goal(document)
    tested = any(peer not in TITLES for row in document["rows"] for peer in row["peers"])
    if not tested:
        return 0
    verdict = ["not under half of Envoy:", *missed] if missed else ["every CPU figure with a ratio is under half of Envoy's"]
    print("\n".join(verdict), file=sys.stderr)
    return 0
