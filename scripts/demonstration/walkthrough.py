"""App Mesh's outlier detection walkthrough: four hosts, one sidecar."""

import asyncio
import json
import re
import shutil
from pathlib import Path

from .program import free_port
from .screen import DemoError, screen
from .sidecar import Sidecar
from .stage import Row, Stage
from .traffic import AUTHORITY, HOSTS, RATE, STEP, Caller

EXAMPLE = Path(__file__).resolve().parents[2] / "mesh-config" / "outlier-walkthrough"


class Mesh:
    """A copy of the walkthrough's YAML, with free ports and without its outlierDetection, which is put in later."""

    def __init__(self, folder, hosts):
        self.folder = folder / "mesh"
        self.file = self.folder / "mesh.yaml"
        self.hosts = hosts
        shutil.copytree(EXAMPLE, self.folder)
        self.local = (self.folder / "local.yaml").read_text()
        self.with_detection = self.file.read_text()
        found = re.search(r"^( *)outlierDetection:\n(?:\1 +.*\n)+", self.with_detection, re.MULTILINE)
        if not found:
            raise DemoError(f"{EXAMPLE}/mesh.yaml has no outlierDetection to take out")
        self.detection = found[0].rstrip("\n").split("\n")
        self.without_detection = self.with_detection.replace(found[0], "")
        self.file.write_text(self.without_detection)

    def take_ports(self):
        self.outbound, self.admin = free_port(), free_port()
        text = re.sub(r"bind: 127\.0\.0\.1:\d+", f"bind: 127.0.0.1:{self.outbound}", self.local)
        text = re.sub(r"address: 127\.0\.0\.1:\d+", f"address: 127.0.0.1:{self.admin}", text)
        ports = iter(self.hosts)
        text = re.sub(r"( port: )\d+", lambda match: f"{match[1]}{next(ports).port}", text)
        text = text.replace("  admin:\n", "  outlierEventLog:\n    path: events.json\n  admin:\n")
        (self.folder / "local.yaml").write_text(text)


class Walkthrough(Stage):
    """The caller and its sidecar; the hosts have none."""

    async def set_up(self):
        screen.line(screen.bold("App Mesh's outlier detection walkthrough, for real"))
        screen.line(f"{HOSTS} hosts and one sidecar on loopback, {RATE} requests a second, {STEP} a step. It takes about 40 seconds.")
        names = {f"127.0.0.1:{host.port}": host.name for host in self.hosts}
        self.mesh = Mesh(self.folder, self.hosts)
        self.sidecar = Sidecar(self.programs, self.folder, ["mesh"], "frontend", names)
        self.sidecars = [self.sidecar]
        await self.sidecar.start(self.mesh.take_ports)
        screen.line(f"\n   hosts 1 to {HOSTS}: 127.0.0.1:{', '.join(str(host.port) for host in self.hosts)}")
        screen.line(f"   {screen.bold('outrigger ' + ' '.join(self.sidecar.command))}   in {self.folder}")
        for line in self.sidecar.lines:
            screen.wrapped(line)
        return Caller([("127.0.0.1", self.mesh.outbound)], AUTHORITY)

    async def play(self):
        hosts = self.hosts
        hosts[3].is_bad = True
        await self.step(
            "1  No outlier detection, host 4 answers 500 to everything",
            ["Round robin gives it every fourth request, and nobody takes it out."],
            Row("1  one bad host, no detection", "150 / 50 ", 148, 152))
        await self.switch_detection_on()
        await self.step(
            "2  Outlier detection, host 4 still bad",
            ["Its fifth error in a row ejects it, at once and not at the end of an interval."],
            Row("2  one bad host, with detection", "195 / 5  ", 193, 197))
        hosts[2].is_bad = True
        await self.step(
            "3  Host 3 goes bad, too",
            ["Five more callers see an error, then host 3 is out as well."],
            Row("3  a second host goes bad", "195 / 5  ", 193, 197))
        await self.step(
            "   The same load again",
            ["Two of four hosts are bad, and no caller sees it."],
            Row("   the same load again", "200 / 0  ", 200, 200))
        hosts[1].is_bad = True
        await self.step(
            "4  Host 2 goes bad, too: panic",
            ["Less than half of the hosts are left. The good one alone would get all the load and fall over,",
             "so health is ignored: a quarter of the requests succeeds rather than none."],
            Row("4  a third host goes bad: panic", " 50 / 150", 47, 57))
        await self.show_what_the_sidecar_says()
        await self.break_the_mesh()

    async def switch_detection_on(self):
        screen.heading("   The YAML of the service is edited while requests go on")
        for line in self.mesh.detection:
            screen.line("   " + screen.green(f"+ {line[4:]}"))
        said = len(self.sidecar.lines)

        async def edit():
            self.mesh.file.write_text(self.mesh.with_detection)
            await self.sidecar.says(r"applied by \d+ worker|not valid", 10, since=said)

        tally = await self.while_requests_go_on(edit())
        for line in self.sidecar.lines[said:]:
            screen.wrapped(line)
        screen.line(
            f"   {tally.total} requests were sent meanwhile: {sum(tally.status.values())} answered by a host, {len(tally.dropped)} dropped")
        self.look_for_trouble(tally)

    async def show_what_the_sidecar_says(self):
        admin = self.mesh.admin
        events = [json.loads(line) for line in self.sidecar.events]
        ejections = [event for event in events if event["action"] == "EJECT"]
        if not ejections:
            raise DemoError("the event log tells of no ejection")
        cluster = ejections[0]["cluster_name"]
        screen.heading("   What the sidecar says of it")
        screen.line(f"   The hosts are its cluster {cluster}.")
        screen.line(f"\n   curl http://127.0.0.1:{admin}/metrics      (\"...\" is the cluster)")
        wanted = (
            "envoy_cluster_outlier_detection_ejections_active", "envoy_cluster_outlier_detection_ejections_enforced_total",
            "envoy_cluster_lb_healthy_panic", "envoy_cluster_membership_total", "envoy_cluster_membership_healthy",
            "outrigger_host_ejected", "outrigger_panic_active")
        metrics = {}
        for line in (await self.sidecar.page(admin, "/metrics")).splitlines():
            name, _, rest = line.partition("{")
            if name in wanted and cluster in rest:
                metrics.setdefault(name, []).append(line)
        for name in wanted:
            for line in metrics.get(name, []):
                screen.clipped(line.replace(cluster, "..."))
        active = metrics.get(wanted[0], ["missing"])[0].split()[-1]
        if (active, len(ejections)) != ("3", 3):
            self.problems.append(f"three hosts should be ejected: {wanted[0]} is {active}, the event log tells of {len(ejections)}")

        screen.line(f"\n   curl http://127.0.0.1:{admin}/outliers      (without the events, which are above)")
        page, _, _ = (await self.sidecar.page(admin, "/outliers")).partition("\n\n")
        is_table = False
        for line in page.splitlines():
            is_table = is_table or line.lstrip().startswith("ENDPOINT")
            (screen.clipped if is_table else screen.wrapped)(line)

        screen.line(f"\n   {len(events)} events in the Sidecar's outlierEventLog, one JSON object a line; two of them:")
        for action in ("EJECT", "PANIC_ON"):
            position = next((place for place, event in enumerate(events) if event["action"] == action), None)
            if position is not None:
                screen.wrapped(self.sidecar.events[position], after=",")

    async def wrong_edit_and_sweep(self):
        said = len(self.sidecar.lines)
        screen.event("in mesh.yaml a port is set to 70000")
        self.mesh.file.write_text(self.mesh.with_detection.replace("port: 8080", "port: 70000", 1))
        await self.sidecar.says("keeping the last good configuration|applied version", 10, since=said)
        await asyncio.sleep(0.1)
        for line in self.sidecar.lines[said:]:
            if "[outlier]" not in line:
                screen.wrapped(line)
        if any("applied version" in line for line in self.sidecar.lines[said:]):
            self.problems.append("the broken mesh was applied")
        said = len(self.sidecar.lines)
        self.mesh.file.write_text(self.mesh.with_detection)
        await self.sidecar.says("the configuration did not", 10, since=said)
        screen.event("the edit is undone")
        await self.sidecar.says("PANIC_OFF", 35)
        await asyncio.sleep(1)

    async def break_the_mesh(self):
        screen.heading(
            "5  The hosts are repaired, and somebody breaks the YAML",
            "Ejected hosts come back at the first sweep (every 30 s since detection was switched on) after",
            "their time. Meanwhile a wrong edit must change nothing.")
        for host in self.hosts:
            host.is_bad = False
        tally = await self.while_requests_go_on(self.wrong_edit_and_sweep(), label="until the sweep: ")
        failures = tally.total - tally.status[200]
        screen.line("   " + screen.bold(f"{tally.total} requests meanwhile, {failures} failures"))
        self.look_for_trouble(tally)
        if tally.status[500]:
            self.problems.append(f"{tally.status[500]} requests failed after the hosts were repaired")
        back = sum(json.loads(line)["action"] == "UNEJECT" for line in self.sidecar.events)
        if back != 3:
            self.problems.append(f"three hosts should have come back, {back} did")
