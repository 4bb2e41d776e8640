"""The command line of Benchmarks/run."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from .certificates import make_certificates
from .measure import DIRECT, Bench, MeasureError, PeerError, call_counter
from .peers import HOST, Peer
from .processes import Processes, free_port
from .proxies.envoy import envoy
from .proxies.floor import floor
from .proxies.haproxy import haproxy
from .proxies.nghttpx import nghttpx
from .proxies.nginx import nginx
from .proxies.outrigger import outrigger
from .report import Results, as_json, markdown
from .scenarios import GROUPS, SCENARIOS, Scenario

PEERS = ["floor", "nginx", "haproxy", "nghttpx", "envoy", "outrigger"]

#: The C programs, and what each one needs beside libc.
PROGRAMS = {"floor": [], "origin": [], "h2origin": [], "load": ["-lssl", "-lcrypto"]}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def names(known_names: list[str]):
    def parse(text: str) -> list[str]:
        chosen = [name.strip() for name in text.split(",") if name.strip()]
        for name in chosen:
            if name not in known_names:
                raise argparse.ArgumentTypeError(f"expected some of {','.join(known_names)}, found {name!r}")
        return chosen

    return parse


def positive(kind: type):
    def parse(text: str):
        value = kind(text)
        if value <= 0:
            raise ValueError
        return value

    parse.__name__ = f"positive {kind.__name__}"
    return parse


def arguments() -> argparse.Namespace:
    members = "; ".join(f"{group} ({', '.join(scenario.name for scenario in scenarios)})" for group, scenarios in GROUPS.items())
    scenario_names = [*GROUPS, *(scenario.name for scenario in SCENARIOS)]
    parser = argparse.ArgumentParser(prog="Benchmarks/run", description="Compares outrigger-proxy with its peers. Figures: README.md.")
    parser.add_argument("--peers", type=names(PEERS), default=PEERS, metavar="NAMES", help=",".join(PEERS))
    parser.add_argument(
        "--scenarios", type=names(scenario_names), default=list(GROUPS), metavar="NAMES",
        help=f"groups or scenarios: {members}",
    )  # fmt: skip
    parser.add_argument("--rounds", type=positive(int), default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--seconds", type=positive(float), default=3, help="of load in each round (default 3)")
    parser.add_argument("--warmup", type=positive(float), default=1, help="seconds of load before each round (default 1)")
    parser.add_argument("--idle-connections", type=positive(int), default=5000, help="for the memory scenario (default 5000)")
    parser.add_argument("--proxy-cpu", type=int, default=0, help="the CPU of the proxy (default 0)")
    parser.add_argument("--load-cpu", type=int, default=1, help="the CPU of the load generator (default 1)")
    parser.add_argument("--origin-cpu", type=int, help="the CPU of the origin (default: that of the load generator)")
    parser.add_argument("--syscalls", action="store_true", help="also count system calls per request, in short runs of their own")
    parser.add_argument("--json", metavar="FILE", help="write every measurement to FILE")
    parser.add_argument(
        "--outrigger", action="append", metavar="[NAME=]PATH",
        help="outrigger-proxy, with outrigger beside it (default .build/release/outrigger-proxy); several compare builds",
    )  # fmt: skip
    parser.add_argument("--snapshot", metavar="FILE", help="run outrigger-proxy with this snapshot; needs the next two")
    parser.add_argument("--snapshot-port", type=positive(int), metavar="PORT", help="where the snapshot's listener is")
    parser.add_argument("--origin-port", type=positive(int), metavar="PORT", help="where the snapshot's endpoint is")
    parser.add_argument("--envoy", metavar="PATH", help="the envoy binary")
    given = parser.parse_args()
    if given.snapshot and not (given.snapshot_port and given.origin_port):
        parser.error("--snapshot needs --snapshot-port and --origin-port")
    if given.snapshot and len(given.outrigger or []) > 1:
        parser.error("--snapshot goes with one --outrigger")
    names_given = [outrigger(text, None, None, free_port).name for text in given.outrigger or []]
    if len(set(names_given) - {*PEERS[:-1], DIRECT}) < len(names_given):
        parser.error("every --outrigger needs a name of its own: --outrigger NAME=PATH")
    allowed = os.sched_getaffinity(0)
    given.origin_cpu = given.load_cpu if given.origin_cpu is None else given.origin_cpu
    for cpu in (given.proxy_cpu, given.load_cpu, given.origin_cpu):
        if cpu not in allowed:
            parser.error(f"CPU {cpu} is not among those allowed ({','.join(map(str, sorted(allowed)))})")
    if given.proxy_cpu in (given.load_cpu, given.origin_cpu):
        parser.error("the proxy needs a CPU of its own: the figures would be those of the load as well")
    return given


def find_peers(given: argparse.Namespace) -> tuple[list[Peer], dict[str, str]]:
    """The proxies that can take part, in order, and why the others cannot."""
    makers = {"floor": floor, "nginx": nginx, "haproxy": haproxy, "nghttpx": nghttpx, "envoy": lambda: envoy(given.envoy)}
    found: list[Peer] = []
    for name in given.peers:
        if name in makers:
            found.append(makers[name]())
        else:
            found += [outrigger(text, given.snapshot, given.snapshot_port, free_port) for text in given.outrigger or [None]]
    return [peer for peer in found if not peer.missing], {peer.name: peer.missing for peer in found if peer.missing}


def find_scenarios(given: argparse.Namespace, missing: dict[str, str]) -> list[Scenario]:
    """Those chosen, in the order of the table, without those that lack a tool."""
    chosen = []
    for group, members in GROUPS.items():
        for scenario in members:
            if not {group, scenario.name} & set(given.scenarios):
                continue
            if scenario.legs[0].http2 and not shutil.which("h2load"):
                missing[scenario.name] = "apt-get install nghttp2-client, or Benchmarks/setup"
            else:
                chosen.append(scenario)
    return chosen


def build(directory: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not compiler:
        sys.exit("run: no C compiler: apt-get install gcc libc6-dev, or Benchmarks/setup")
    for tool in ("curl", "openssl"):
        if not shutil.which(tool):
            sys.exit(f"run: no {tool}: apt-get install {tool}, or Benchmarks/setup")
    here = Path(__file__).resolve().parents[1]
    for name, libraries in PROGRAMS.items():
        source = here / name / f"{name}.c"
        command = [compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-o", str(directory / name), str(source), *libraries]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            hint = "\nDebian has the headers of OpenSSL in libssl-dev." if "openssl/" in done.stderr else ""
            sys.exit(f"run: {' '.join(command)} failed:\n{done.stderr}{hint}")


def machine() -> str:
    models = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    return f"{date.today().isoformat()}, {os.cpu_count()} CPUs ({model}), {system}, Linux {platform.release()}."


def busy_share(seconds: float) -> float:
    """How much of all CPUs others use now (/proc/stat), 0 to 1, steal included."""

    def ticks() -> tuple[int, int]:
        fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    all_before, idle_before = ticks()
    time.sleep(seconds)
    all_after, idle_after = ticks()
    return 1 - (idle_after - idle_before) / max(1, all_after - all_before)


def prepare(given: argparse.Namespace, processes: Processes, directory: Path) -> Bench:
    """The C programs, the certificates and the origins."""
    tools = directory / "tools"
    tools.mkdir()
    build(tools)
    origins = (given.origin_port or free_port(), free_port())
    for name, port in zip(("origin", "h2origin"), origins):
        server = processes.start([str(tools / name), str(port)], given.origin_cpu, log=directory / f"{name}.log")
        time.sleep(0.1)
        if server.poll() is not None:
            sys.exit(f"run: {name} did not start: {(directory / f'{name}.log').read_text().strip()}")
    return Bench(
        processes, tools, directory, make_certificates(directory / "certificates", HOST), origins, given.proxy_cpu, given.load_cpu,
        given.seconds, given.warmup, given.idle_connections,
    )  # fmt: skip


def able(peers: list[Peer], scenario: Scenario) -> list[Peer]:
    """Those that can stand between the scenario's legs."""
    pairs = list(zip(scenario.legs, scenario.legs[1:]))
    return [peer for peer in peers if all(peer.speaks(*pair) for pair in pairs)]


def run(given: argparse.Namespace, bench: Bench, scenarios: list[Scenario], chosen: list[Peer], results: Results) -> None:
    """Measures all rounds into `results`, which hold what there is when the run is interrupted."""
    direct = Peer(DIRECT, lambda _: [])
    for number in range(1, given.rounds + 1):
        for scenario in scenarios:
            if scenario.once and number > 1:
                continue
            field = able(chosen, scenario)
            if scenario.rate:
                field.insert(0, direct)
            # Each round starts with another proxy: none is always the one after a heavy neighbour.
            turn = (number - 1) % max(1, len(field))
            for peer in field[turn:] + field[:turn]:
                say(f"round {number} of {given.rounds}: {scenario.name}, {peer.name}")
                try:
                    results.add(scenario, peer.name, number, bench.measure(scenario, peer))
                except (MeasureError, PeerError, OSError, ValueError, subprocess.TimeoutExpired) as error:
                    say(f"  failed: {error}")
                    results.fail(scenario, peer.name, number, str(error))
    if given.syscalls:
        count = call_counter()
        if not count:
            say("skipped: system calls need perf or strace (apt-get install linux-perf strace)")
        for scenario in scenarios if count else []:
            if scenario.kind != "load":
                continue
            for peer in able(chosen, scenario):
                say(f"system calls: {scenario.name}, {peer.name}")
                try:
                    results.calls[scenario.name, peer.name] = bench.count_calls(scenario, peer, count)
                except (MeasureError, PeerError, OSError, ValueError, subprocess.TimeoutExpired) as error:
                    say(f"  failed: {error}")
                    results.failures.append(
                        {"scenario": scenario.name, "peer": peer.name, "round": "system calls", "reason": str(error)}
                    )  # fmt: skip


def main() -> int:
    given = arguments()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    chosen, missing = find_peers(given)
    scenarios = find_scenarios(given, missing)
    if any(scenario.kind == "memory" for scenario in scenarios) and hard < 2 * given.idle_connections + 4000:
        # HAProxy alone reserves two descriptors a connection.
        needed = 2 * given.idle_connections + 4000
        say(f"run: --idle-connections {given.idle_connections} needs {needed} descriptors; the hard limit (ulimit -Hn) is {hard}")
        return 2
    if given.json:
        # Better now than after a quarter of an hour.
        try:
            Path(given.json).touch()
        except OSError as error:
            say(f"run: --json {given.json}: {error.strerror}")
            return 2
    for name, reason in missing.items():
        say(f"skipped: {name}: {reason}")
    if not chosen or not any(able(chosen, scenario) for scenario in scenarios):
        say("run: nothing to measure: no such proxy, or none that speaks what the scenarios need")
        return 2
    noise = busy_share(1)
    if noise > 0.1:
        say(f"warning: other work keeps {noise:.0%} of this machine's CPUs busy; figures will be noisy, ratios less so")

    results = Results()
    interrupted = False
    with tempfile.TemporaryDirectory(prefix="outrigger-bench-") as path:
        try:
            with Processes() as processes:
                run(given, prepare(given, processes, Path(path)), scenarios, chosen, results)
        except KeyboardInterrupt:
            say("interrupted")
            interrupted = True
    if interrupted:
        return 130

    peer_names = [peer.name for peer in chosen]
    versions = {peer.name: peer.version for peer in chosen}
    settings = (
        f"{given.rounds} interleaved rounds of {given.seconds:g} s after {given.warmup:g} s of warm-up; proxy on CPU {given.proxy_cpu}, "
        f"one worker; load on CPU {given.load_cpu}, origin on CPU {given.origin_cpu}; {noise:.0%} of the CPUs busy with other work before."
    )
    print(markdown(results, scenarios, peer_names, settings, machine(), versions))
    for name, reason in missing.items():
        print(f"\nskipped: {name}: {reason}")
    if given.json:
        document = {
            "machine": machine(), "settings": settings, "busyBefore": noise, "versions": versions, "skipped": missing,
            **as_json(results, scenarios, peer_names),
        }  # fmt: skip
        Path(given.json).write_text(json.dumps(document, indent=2) + "\n")
    return 1 if results.failures else 0
