#!/usr/bin/env python3
"""Plays AWS App Mesh's outlier detection walkthrough on loopback: four hosts, one sidecar, 50 requests a second. Then the whole mesh
path with mutual TLS: the same hosts with a sidecar each. Then a mesh that a control plane holds.

usage: scripts/demo.py DIR [walkthrough|mtls|managed]...
       (DIR holds the programs `outrigger`, `outriggerd` and `outrigger-proxy`; scripts/demo builds them. Default: all acts)

Everything that is printed was counted here, by the caller and by the hosts, or said by the programs.
Exit status: 0 if all came out as it should, 1 if not or if something failed, 2 for a wrong command line.
"""

import signal

# Ctrl-C ends the program without a traceback; once there is something to clean up, `main` takes over.
signal.signal(signal.SIGINT, signal.SIG_DFL)

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from demonstration.managed import ManagedMesh
from demonstration.mesh_path import MeshPath
from demonstration.screen import DemoError, screen
from demonstration.stage import summarize
from demonstration.walkthrough import Walkthrough

ACTS = {"walkthrough": Walkthrough, "mtls": MeshPath, "managed": ManagedMesh}
REPOSITORY = Path(__file__).resolve().parent.parent


def suggest(programs):
    usual = next((name for name in ("release", "debug") if (REPOSITORY / ".build" / name).resolve() == programs), None)
    screen.heading("What to try next")
    for command, what in [
        (f"export PATH=$PWD/.build/{usual}:$PATH" if usual else f"export PATH={programs}:$PATH", ""),
        ("outrigger validate -f mesh-config/colors", "every error at once"),
        ("outrigger render -f mesh-config/colors --node canvas", "what its sidecar will run"),
        ("outrigger run -f mesh-config/outlier-walkthrough --node frontend", "the sidecar of this demo"),
        ("mesh-config/mtls/mesh.yaml", "mutual TLS, step by step"),
        ("mesh-config/managed/mesh.yaml", "a control plane, step by step"),
        ("docs/configuration.md", "every field"),
        ("docs/outlier-detection.md", "the rules seen above"),
        ("docs/metrics.md", "what to watch"),
        ("docs/cli.md", "the commands that run a mesh"),
    ]:
        screen.line(f"   {command:<67}{screen.dim(what)}".rstrip())


async def demo(programs, folder, acts):
    stages = []
    for name in acts:
        (folder / name).mkdir()
        stages.append(ACTS[name](programs, folder / name))
        await stages[-1].perform()
    is_right = summarize(stages)
    suggest(programs)
    return 0 if is_right else 1


async def main(programs, acts):
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
            return await demo(programs, Path(folder), acts)
        except asyncio.CancelledError:
            return 128 + received[0]


if __name__ == "__main__":
    wanted = sys.argv[2:] or list(ACTS)
    if len(sys.argv) < 2 or len(set(wanted)) < len(wanted) or not set(wanted) <= set(ACTS):
        print(f"usage: scripts/demo.py DIR [{'|'.join(ACTS)}]...   (scripts/demo builds the programs and names it)", file=sys.stderr)
        sys.exit(2)
    directory = Path(sys.argv[1]).resolve()
    for program in ("outrigger", "outriggerd", "outrigger-proxy"):
        if not os.access(directory / program, os.X_OK):
            print(f"scripts/demo.py: {directory} has no program {program}", file=sys.stderr)
            sys.exit(2)
    try:
        sys.exit(asyncio.run(main(directory, wanted)))
    except DemoError as error:
        print(f"scripts/demo: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # Nobody reads on (`| head`). The interpreter would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
