#!/usr/bin/env python3
"""Plays AWS App Mesh's outlier detection walkthrough on loopback: four hosts, one sidecar, 50 requests a second.

usage: scripts/demo.py DIR     (DIR holds the programs `outrigger` and `outrigger-proxy`; scripts/demo builds them)

Everything that is printed was counted here, by the caller and by the hosts, or read from the sidecar's event log and admin pages.
Exit status: 0 if the counts are those of the walkthrough, 1 if not or if something failed, 2 for a wrong command line.
"""

import signal

# Ctrl-C ends the program without a traceback; once there is something to clean up, `main` takes over.
signal.signal(signal.SIGINT, signal.SIG_DFL)

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from demonstration.screen import DemoError, screen
from demonstration.sidecar import Sidecar
from demonstration.traffic import HOSTS, RATE, STEP, Caller, Host
from demonstration.walkthrough import Mesh, Walkthrough

REPOSITORY = Path(__file__).resolve().parent.parent


def suggest(programs):
    usual = next((name for name in ("release", "debug") if (REPOSITORY / ".build" / name).resolve() == programs), None)
    screen.heading("What to try next")
    for command, what in [
        (f"export PATH=$PWD/.build/{usual}:$PATH" if usual else f"export PATH={programs}:$PATH", ""),
        ("outrigger validate -f mesh-config/colors", "every error at once"),
        ("outrigger render -f mesh-config/colors --node canvas", "what its sidecar will run"),
        ("outrigger run -f mesh-config/outlier-walkthrough --node frontend", "the sidecar of this demo"),
        ("docs/configuration.md", "every field"),
        ("docs/outlier-detection.md", "the rules seen above"),
        ("docs/metrics.md", "what to watch"),
    ]:
        screen.line(f"   {command:<67}{screen.dim(what)}".rstrip())


async def demo(programs, folder):
    screen.line(screen.bold("App Mesh's outlier detection walkthrough, for real"))
    screen.line(f"{HOSTS} hosts and one sidecar on loopback, {RATE} requests a second, {STEP} a step. It takes about 40 seconds.")
    hosts = [Host(number) for number in range(1, HOSTS + 1)]
    for host in hosts:
        await host.start()
    mesh = Mesh(folder, hosts)
    sidecar = Sidecar(programs, folder, "frontend", {f"127.0.0.1:{host.port}": host.name for host in hosts})
    caller = None
    try:
        await sidecar.start(mesh.take_ports)
        screen.line(f"\n   hosts 1 to {HOSTS}: 127.0.0.1:{', :'.join(str(host.port) for host in hosts)}")
        screen.line(f"   {screen.bold('outrigger ' + ' '.join(sidecar.command))}   in {folder}")
        for line in sidecar.lines:
            screen.wrapped(line)
        caller = Caller(mesh.outbound)
        walkthrough = Walkthrough(hosts, mesh, sidecar, caller)
        await walkthrough.play()
        is_right = walkthrough.summarize()
        suggest(programs)
        return 0 if is_right else 1
    except DemoError as error:
        raise DemoError(f"{error}{sidecar.last_words()}") from None
    finally:
        screen.progress("")
        if caller:
            caller.close()
        await sidecar.stop()


async def main(programs):
    """Runs the demo; a signal ends it in good order, with the status that a shell would give."""
    loop, task, received = asyncio.get_running_loop(), asyncio.current_task(), []

    def interrupt(number):
        # Once: what follows is the cleaning up, which takes a few seconds at most.
        if not received:
            task.cancel()
        received.append(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupt, number)
    with tempfile.TemporaryDirectory(prefix="outrigger-demo-") as folder:
        try:
            return await demo(programs, Path(folder))
        except asyncio.CancelledError:
            return 128 + received[0]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print("usage: scripts/demo.py DIR   (scripts/demo builds the programs and names it)", file=sys.stderr)
        sys.exit(2)
    directory = Path(sys.argv[1]).resolve()
    for program in ("outrigger", "outrigger-proxy"):
        if not os.access(directory / program, os.X_OK):
            print(f"scripts/demo.py: {directory} has no program {program}", file=sys.stderr)
            sys.exit(2)
    try:
        sys.exit(asyncio.run(main(directory)))
    except DemoError as error:
        print(f"scripts/demo: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # Nobody reads on (`| head`). The interpreter would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
