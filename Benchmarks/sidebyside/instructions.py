"""User instructions per request under callgrind: what a busy machine cannot blur.

Two runs that differ in the number of requests only are counted; their difference holds no start, no handshake and no first request.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from .main import find_peers, names, positive, prepare, say
from .measure import Bench, MeasureError
from .peers import REPOSITORY, Peer, PeerError, Place
from .processes import Processes
from .scenarios import SCENARIOS, Scenario

#: Each of h2load's streams has had some requests by then. Handshakes are a hundred times slower, and alike from the second on.
WARM_REQUESTS = 1024
WARM_HANDSHAKES = 100


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="Benchmarks/instructions", description="User instructions per request, under callgrind.")
    scenario_names = [scenario.name for scenario in SCENARIOS if scenario.kind == "load" and not scenario.rate]
    parser.add_argument(
        "--scenarios", type=names(scenario_names), default=["h2c-h1", "mesh-h2"], metavar="NAMES", help=",".join(scenario_names)
    )  # fmt: skip
    parser.add_argument(
        "--peers", type=names(["nginx", "haproxy", "nghttpx", "outrigger"]), default=["outrigger"], metavar="NAMES",
        help="nginx,haproxy,nghttpx,outrigger (default: outrigger)",
    )  # fmt: skip
    parser.add_argument("--outrigger", metavar="PATH", help="outrigger-proxy (default .build/release/outrigger-proxy)")
    parser.add_argument("--requests", type=positive(int), default=2000, help="counted after those that warm up (default 2000)")
    parser.add_argument("--top", type=positive(int), default=30, help="functions to show, by their own cost (default 30)")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="put the profiles there, for callgrind_annotate or KCachegrind")
    given = parser.parse_args()
    given.outrigger = [given.outrigger] if given.outrigger else None
    given.snapshot = given.snapshot_port = given.origin_port = given.envoy = None
    cpus = sorted(os.sched_getaffinity(0))
    given.proxy_cpu, given.load_cpu, given.origin_cpu = cpus[0], cpus[-1], cpus[-1]
    given.seconds = given.warmup = 1
    given.idle_connections = 1000
    return given


def stripped(given: argparse.Namespace, directory: Path) -> None:
    """Debian's valgrind cannot read the debug sections that Swift writes; the symbols are all that is needed."""
    proxy = Path(given.outrigger[0] if given.outrigger else REPOSITORY / ".build/release/outrigger-proxy")
    if not proxy.is_file():
        return
    copy = directory / "stripped"
    copy.mkdir()
    shutil.copy(proxy, copy / "outrigger-proxy")
    subprocess.run(["strip", "-g", str(copy / "outrigger-proxy")], check=True)
    if (proxy.parent / "outrigger").exists():
        (copy / "outrigger").symlink_to((proxy.parent / "outrigger").resolve())
    given.outrigger = [f"outrigger={copy / 'outrigger-proxy'}"]


def callgrind(place: Place) -> list[str]:
    return ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={place.directory}/callgrind.%p"]


def own_costs(directory: Path) -> Counter[str]:
    """Instructions by `function [object]`, of every process that ran there."""
    costs: Counter[str] = Counter()
    for file in directory.glob("callgrind.*"):
        shown = subprocess.run(
            ["callgrind_annotate", "--auto=no", "--threshold=100", "--show=Ir", str(file)], capture_output=True, text=True, check=True
        )  # fmt: skip
        for line in shown.stdout.splitlines():
            found = re.match(r"\s*([\d,]+)\s+\(\s*[\d.]+%\)\s+\S*?:(.+)$", line)
            if found:
                costs[found.group(2).strip()] += int(found.group(1).replace(",", ""))
    if not costs:
        raise MeasureError(f"no profile in {directory}: the proxy did not end by itself")
    return costs


def counted(bench: Bench, scenario: Scenario, peer: Peer, requests: int, keep: Path | None) -> tuple[Counter[str], list[str]]:
    """Costs by function of the only proxy, or of each sidecar with its role before the name; and the roles."""
    with bench.running(scenario, peer, callgrind) as running:
        bench.loaded(scenario, running.port, requests=requests)
    costs: Counter[str] = Counter()
    for place in running.places:
        costs.update({f"{place.role.value} {name}": cost for name, cost in own_costs(place.directory).items()})
        if keep:
            keep.mkdir(parents=True, exist_ok=True)
            for file in place.directory.glob("callgrind.*"):
                shutil.copy(file, keep / f"{scenario.name}-{peer.name}-{place.role.value}-{requests}.{file.name}")
    return costs, [place.role.value for place in running.places]


def demangled(lines: str) -> str:
    """By `swift demangle`, if it is there."""
    if not shutil.which("swift"):
        return lines
    return subprocess.run(["swift", "demangle", "--simplified"], input=lines, capture_output=True, text=True).stdout or lines


def count(bench: Bench, scenario: Scenario, peer: Peer, requests: int, top: int, keep: Path | None) -> str:
    warm = WARM_HANDSHAKES if scenario.churn else WARM_REQUESTS
    less, roles = counted(bench, scenario, peer, warm, None)
    more, _ = counted(bench, scenario, peer, warm + requests, keep)
    each = Counter({name: (cost - less[name]) / requests for name, cost in more.items()})
    lines = [f"{scenario.name}, {peer.name}: {sum(each.values()):,.0f} instructions per request"]
    if len(roles) > 1:
        parts = [f"{role} {sum(cost for name, cost in each.items() if name.startswith(role)):,.0f}" for role in roles]
        lines[0] += f" ({', '.join(parts)})"
    by_object: Counter[str] = Counter()
    for name, cost in each.items():
        found = re.search(r"\[([^]]+)\]$", name)
        by_object[Path(found.group(1)).name if found else "?"] += cost
    lines.append("  by object: " + ", ".join(f"{name} {cost:,.0f}" for name, cost in by_object.most_common(8) if cost >= 1))
    by_function: Counter[str] = Counter()
    for name, cost in each.items():
        by_function[re.sub(r"\s*\[[^]]*\]$", "", name.partition(" ")[2])] += cost
    functions = demangled("\n".join(f"  {cost:10,.0f}  {name}" for name, cost in by_function.most_common(top)))
    return "\n".join([*lines, functions])


def main() -> int:
    given = arguments()
    for tool in ("valgrind", "callgrind_annotate", "strip"):
        if not shutil.which(tool):
            say(f"instructions: no {tool}: apt-get install valgrind binutils, or Benchmarks/setup")
            return 2
    failed = False
    with tempfile.TemporaryDirectory(prefix="outrigger-bench-") as path, Processes() as processes:
        directory = Path(path)
        stripped(given, directory)
        chosen, missing = find_peers(given)
        for name, reason in missing.items():
            say(f"skipped: {name}: {reason}")
        bench = prepare(given, processes, directory)
        for scenario in SCENARIOS:
            if scenario.name not in given.scenarios:
                continue
            for peer in chosen:
                try:
                    print(count(bench, scenario, peer, given.requests, given.top, given.keep), flush=True)
                except (MeasureError, PeerError, OSError, ValueError, subprocess.SubprocessError) as error:
                    say(f"{scenario.name}, {peer.name} failed: {error}")
                    failed = True
    return 1 if failed or not chosen else 0


__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
