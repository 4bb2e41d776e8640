"""The command line of Benchmarks/chaos."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from sidebyside.main import busy_share, machine, names, positive, say
from sidebyside.peers import REPOSITORY
from sidebyside.processes import Processes

from .figures import Figures
from .measure import MeasureError, Stage, realtime_prefix, shared_memory
from .profiles import Profile, appmesh, envoy, haproxy, none, standard
from .report import judged, markdown
from .rows import ROWS, Row, Times

PROFILES = ["none", "appmesh", "standard", "envoy", "haproxy"]
#: What the rows' bounds are for.
FULL = 10


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="Benchmarks/chaos", description="Hosts in trouble behind outrigger-proxy and its peers. Figures: README.md."
    )  # fmt: skip
    rows = [row.name for row in ROWS]
    parser.add_argument("--rows", type=names(rows), default=rows, metavar="NAMES", help=",".join(rows))
    parser.add_argument("--profiles", type=names(PROFILES), default=PROFILES, metavar="NAMES", help=",".join(PROFILES))
    parser.add_argument(
        "--seconds", type=positive(float), default=FULL, help=f"of trouble (default {FULL}, for which the bounds are); half as long before"
    )  # fmt: skip
    parser.add_argument("--rounds", type=positive(int), default=1, help="of all rows; of each figure the worst counts (default 1)")
    parser.add_argument("--seed", type=positive(int), default=1, help="of the calls' distances and the hosts' times (default 1)")
    parser.add_argument("--proxy-cpu", type=int, default=0, help="the CPU of the proxies (default 0)")
    parser.add_argument("--load-cpu", type=int, default=1, help="the CPU of callers and hosts (default 1)")
    parser.add_argument("--one-by-one", action="store_true", help="the proxies of a row one after the other, not at the same time")
    parser.add_argument("--outrigger", type=Path, metavar="DIRECTORY", help="of outrigger-proxy and outrigger (default .build/release)")
    parser.add_argument("--envoy", metavar="PATH", help="the envoy binary")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure to FILE")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="leave configurations, logs and what callers saw there")
    given = parser.parse_args()
    given.outrigger = (given.outrigger or REPOSITORY / ".build/release").absolute()
    for cpu in (given.proxy_cpu, given.load_cpu):
        if cpu not in os.sched_getaffinity(0):
            parser.error(f"CPU {cpu} is not among those allowed")
    return given


def find_profiles(given: argparse.Namespace) -> list[Profile]:
    makers = {
        "none": lambda: none(given.outrigger), "appmesh": lambda: appmesh(given.outrigger), "standard": lambda: standard(given.outrigger),
        "envoy": lambda: envoy(given.envoy), "haproxy": haproxy,
    }  # fmt: skip
    return [makers[name]() for name in PROFILES if name in given.profiles]


def build(directory: Path) -> None:
    here = Path(__file__).resolve().parent
    for name in ("host", "caller"):
        command = ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-o", str(directory / name), str(here / f"{name}.c")]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"chaos: {' '.join(command)} failed:\n{done.stderr}")


def run(given: argparse.Namespace, stage: Stage, rows: list[Row], profiles: list[Profile], results: list[dict]) -> None:
    for number in range(given.rounds):
        for row in rows:
            times = row.times or Times.lasting(given.seconds, row.after)
            groups = [[profile] for profile in profiles] if given.one_by_one else [profiles]
            for group in groups:
                say(f"{row.name}: {', '.join(profile.name for profile in group)} ({times.over:g} s)")
                try:
                    outcome: dict[str, Figures | str] = stage.perform(row, times, group, given.seed + number)
                except MeasureError as error:
                    outcome = {profile.name: str(error) for profile in group}
                for name, found in outcome.items():
                    results.append({"row": row.name, "profile": name, "round": number + 1, "found": found})
                    if isinstance(found, str):
                        say(f"  {name} failed: {found}")


def as_json(found: Figures | str) -> dict[str, object] | str:
    """What never came is "never", and null what there is nothing to say about."""
    if isinstance(found, str):
        return found
    values = asdict(found).items()
    return {name: "never" if value is None else None if value != value else value for name, value in values}


def main() -> int:
    given = arguments()
    rows = [row for row in ROWS if row.name in given.rows]
    profiles = find_profiles(given)
    for profile in profiles:
        if profile.missing:
            say(f"skipped: {profile.name}: {profile.missing}")
    profiles = [profile for profile in profiles if not profile.missing]
    if not profiles:
        return 2
    prefix = realtime_prefix()
    if not prefix:
        say("warning: no realtime priority (chrt, as root): other work on this machine will be seen in the latencies")
    noise = busy_share(1)
    results: list[dict] = []
    interrupted = False
    with tempfile.TemporaryDirectory(prefix="outrigger-chaos-", dir=shared_memory()) as path:
        directory = Path(path)
        if given.keep:
            given.keep.mkdir(parents=True, exist_ok=True)
            directory = given.keep.resolve()
        tools = Path(path) / "tools"
        tools.mkdir()
        build(tools)
        try:
            with Processes() as processes:
                run(given, Stage(processes, tools, directory, given.proxy_cpu, given.load_cpu, prefix), rows, profiles, results)
        except KeyboardInterrupt:
            say("interrupted")
            interrupted = True
    if interrupted:
        return 130
    verdicts = judged(rows, profiles, results) if given.seconds == FULL else []
    print(markdown(rows, profiles, results, verdicts))
    together = "one by one" if given.one_by_one else "all proxies of a row at the same time"
    priority = "with realtime priority" if prefix else "without realtime priority"
    versions = ", ".join(f"{profile.name} {profile.version}" for profile in profiles)
    settings = f"{together}, {priority}, {given.seconds:g} s of trouble, {given.rounds} round(s); {noise:.0%} of the CPUs busy before"
    print(f"\n{machine()} {settings}. {versions}.")
    if given.json:
        plain = [{**result, "found": as_json(result["found"])} for result in results]
        given.json.write_text(json.dumps({"machine": machine(), "settings": settings, "results": plain}, indent=2) + "\n")
    is_broken = any(isinstance(result["found"], str) for result in results)
    return 1 if is_broken or not all(verdict.holds for verdict in verdicts) else 0
