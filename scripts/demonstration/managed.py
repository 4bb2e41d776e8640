"""A mesh that a control plane holds: outriggerd, six sidecars, and the commands that run it."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
from pathlib import Path

from .program import Program
from .screen import WIDTH, DemoError, screen
from .stage import Row, Stage
from .traffic import Caller, Host

EXAMPLE = Path(__file__).resolve().parents[2] / "mesh-config" / "managed"
AUTHORITY = "catalog.shop"
# Node, instance, and the last number of its address.
PROXIES = [
    ("shop/cart", "cart-1", 11),
    ("shop/cart", "cart-2", 12),
    ("shop/catalog", "catalog-1", 21),
    ("shop/catalog", "catalog-2", 22),
    ("shop/catalog", "catalog-3", 23),
    ("shop/catalog-next", "catalog-next-1", 31),
]
CONTROL_PORT, INBOUND_PORT, OUTBOUND_PORT, ADMIN_PORT, APP_PORT = 15010, 15000, 15001, 9901, 8080
# How the route of the catalog gives half of its requests to the next version.
NEXT = ["            - virtualNodeRef:", "                name: catalog-next", "              weight: 1"]


class ManagedMesh(Stage):
    """Two carts call a catalog of three hosts; the catalog's next version is released while they do."""

    def __init__(self, programs, folder):
        super().__init__(programs, folder)
        self.network = free_network()
        self.control = f"127.0.0.1:{free_control_port()}"
        self.hosts = [
            Host(instance, self.address(number), APP_PORT) for node, instance, number in PROXIES if node.startswith("shop/catalog")]
        self.bad_host, self.next_host = self.hosts[2], self.hosts[3]
        self.mesh = folder / "mesh" / "mesh.yaml"

    def address(self, number):
        return f"{self.network}.{number}"

    async def set_up(self):
        screen.heading(
            "A mesh from one place: a control plane, and six sidecars that get all they need from it",
            "Two carts call a catalog of three hosts. The catalog's next version has a host, too, and is not called yet.",
            "It takes about 30 seconds.")
        shutil.copytree(EXAMPLE, self.folder / "mesh")
        self.outriggerd = Program(
            self.programs / "outriggerd", ["--data-dir", "data", "--listen", self.control, "--report-interval", "1"], self.folder)
        self.sidecars = [self.outriggerd]
        screen.line()
        await self.start_control_plane()
        if not self.control.endswith(f":{CONTROL_PORT}"):
            self.say_command("export", f"OUTRIGGER_CONTROL_PLANE={self.control}")
        await self.outrigger("apply", "-f", "mesh", "--reason", "first")
        self.require((await self.status())["revision"] == 1, "the first apply should make revision 1")

        proxies = [self.proxy(*words) for words in PROXIES]
        self.sidecars = [*proxies, self.outriggerd]
        for proxy in proxies:
            await proxy.spawn()
        self.say_command("outrigger-proxy", *proxies[0].command)
        for (node, instance, _), proxy in zip(PROXIES[1:], proxies[1:]):
            screen.line(screen.dim(f"   likewise {node:<18} {instance:<15} {proxy.command[-1]}"))
        await self.until_all_apply(15)
        await self.until(lambda services: services.get("shop/catalog", {}).get("endpoints") == 3, self.services, "catalog's endpoints")
        screen.line("\n   Each has asked for its configuration, runs it, says so, and is an endpoint for those that call it.")
        await self.outrigger("status")
        return Caller([(self.address(number), OUTBOUND_PORT) for node, _, number in PROXIES if node == "shop/cart"], AUTHORITY)

    async def start_control_plane(self):
        self.say_command("outriggerd", *self.outriggerd.command)
        await self.outriggerd.spawn()
        screen.wrapped(await self.outriggerd.says("listens on", 15))

    def proxy(self, node, instance, number):
        address = self.address(number)
        return Program(
            self.programs / "outrigger-proxy",
            ["--control-plane", self.control, "--node", node, "--instance", instance, "--host-address", address],
            self.folder)

    # The command line

    async def outrigger(self, *words, expecting=0):
        """Runs a command, and shows it with all that it says."""
        self.say_command("outrigger", *words)

        unchanged = []

        def show(line):
            if line.endswith(" unchanged"):
                unchanged.append(line)
                return
            if unchanged and line.startswith("revision "):
                screen.line("   " + screen.dim(f"... and {len(unchanged)} unchanged"))
                unchanged.clear()
            screen.wrapped(line)

        status, text = await self.run(words, show)
        self.require(status == expecting, f"outrigger {words[0]} should end with status {expecting}, and ended with {status}")
        return text

    async def run(self, words, show=None):
        process = await asyncio.create_subprocess_exec(
            self.programs / "outrigger", *words, cwd=self.folder, env=self.environment(), stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)

        async def read():
            lines = []
            while line := await process.stdout.readline():
                lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                if show:
                    show(lines[-1])
            return await process.wait(), "\n".join(lines)

        try:
            return await asyncio.wait_for(read(), 40)
        except asyncio.TimeoutError:
            raise DemoError(f"outrigger {' '.join(words)} took more than 40 s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    def environment(self):
        """Ours, but for what would lead to another control plane."""
        kept = {name: value for name, value in os.environ.items() if name != "OUTRIGGER_TOKEN"}
        return {**kept, "OUTRIGGER_CONTROL_PLANE": self.control, "XDG_CONFIG_HOME": str(self.folder)}

    def say_command(self, *words):
        """As it would be typed."""
        rows = [""]
        for word in (f"'{word}'" if " " in word else word for word in words):
            if rows[-1] and len(rows[-1]) + len(word) > WIDTH - 8:
                rows.append("")
            rows[-1] += word + " "
        screen.line()
        for number, row in enumerate(rows, 1):
            screen.line(("   " if number == 1 else "     ") + screen.bold(row + "\\" if number < len(rows) else row.rstrip()))

    async def look(self, *words):
        """What a command says with `-o json`; not shown."""
        status, text = await self.run([*words, "-o", "json"])
        if status:
            raise DemoError(f"outrigger {' '.join(words)} ended with {status}: {text}")
        return json.loads(text)

    async def status(self):
        return await self.look("status")

    async def services(self):
        return {item["service"]: item for item in await self.look("top", "--window", "5s")}

    async def revisions(self):
        return [(item["revision"], item.get("reason")) for item in await self.look("history")]

    async def until(self, is_right, get, what, seconds=10):
        """Asks until the answer is right."""
        for _ in range(seconds * 5):
            answer = await get()
            if is_right(answer):
                return answer
            await asyncio.sleep(0.2)
        raise DemoError(f"{what} did not come within {seconds} s: {json.dumps(answer, indent=1)}")

    async def until_all_apply(self, seconds):
        def is_right(status):
            nodes = status["nodes"]
            return len(nodes) == len(PROXIES) and all(
                node["isConnected"] and node["state"] == "live" and node.get("applied") == node.get("wanted") != None for node in nodes)

        return await self.until(is_right, self.status, "six proxies that run what they should", seconds)

    def require(self, is_right, sentence):
        if not is_right:
            self.problems.append(sentence)
            screen.wrapped(sentence, code="31")

    # What happens

    async def play(self):
        await self.step(
            "9  All hosts are well",
            ["Each cart calls 25 times a second through the sidecar beside it."],
            Row("9  six sidecars, all hosts well", "200 / 0  ", 200, 200, "expected"))
        await self.eject()
        await self.refuse()
        await self.take_back()
        await self.kill()
        await self.release()

    async def eject(self):
        self.bad_host.is_bad = True
        await self.step(
            f"10  {self.bad_host.name} answers 500 to everything",
            ["Each cart's sidecar sees five errors in a row and leaves it alone."],
            Row("10 one bad host", "190 / 10 ", 186, 192, "expected"))
        await self.step(
            "    The same load again",
            ["The bad host is out, and no caller sees it."],
            Row("   the same load again", "200 / 0  ", 200, 200, "expected"))
        bad = f"{self.bad_host.address}:{INBOUND_PORT}"
        await self.until(
            lambda items: [(item["endpoint"], len(item["ejectedBy"])) for item in items] == [(bad, 2)], lambda: self.look("outliers"),
            f"the ejection of {bad} by both carts")
        screen.line("\n   The sidecars have reported it: who is out, why, and who says so.")
        text = await self.outrigger("outliers")
        self.require(bad in text and "shop/catalog" in text, f"outrigger outliers should name {bad} of shop/catalog")
        services = await self.services()
        item = services.get("shop/catalog", {})
        self.require(
            (item.get("endpoints"), item.get("ejected"), item.get("callers")) == (3, 1, 2) and item["requestsPerSecond"] > 20,
            f"outrigger top should show 1 of 3 endpoints of shop/catalog ejected, and 2 callers: {item}")
        await self.outrigger("top")
        self.bad_host.is_bad = False

    async def refuse(self):
        screen.heading("11  Somebody makes a mistake in the YAML", "It is refused with its place, and nothing changes.")
        before = await self.revisions()
        good = self.mesh.read_text()
        lines = good.split("\n")
        number = next(number for number, line in enumerate(lines, 1) if line.strip() == "port: 8080")
        column = lines[number - 1].index("8080") + 1
        lines[number - 1] = lines[number - 1].replace("8080", "80800")
        screen.line(f"\n   mesh/mesh.yaml, line {number}")
        screen.line("   " + screen.green(f"+ {lines[number - 1].strip()}"))
        self.mesh.write_text("\n".join(lines))
        text = await self.outrigger("apply", "-f", "mesh", expecting=1)
        place = f"mesh/mesh.yaml:{number}:{column}: "
        self.require(place in text and "found 80800" in text, f"the refusal should name {place}")
        self.require(await self.revisions() == before, "a refused change should make no revision")
        self.mesh.write_text(good)

    async def take_back(self):
        screen.heading(
            "12  The catalog's next version is released to one cart first, and has a bug",
            "It answers 500. A staged rollout gives the new route to cart-1 only, watches it, and takes it back.")
        self.next_host.is_bad = True
        text = self.mesh.read_text()
        found = re.search(r"weightedTargets:\n(?: +.*\n)+?(?=---)", text)
        self.mesh.write_text(text.replace(found[0], found[0] + "\n".join(NEXT) + "\n"))
        before = (await self.status())["revision"]
        await self.outrigger("diff", "-f", "mesh")

        async def rollout():
            return await self.outrigger(
                "apply", "-f", "mesh", "--rollout", "canary=1,100%", "--pause", "10s", "--wait", "--reason", "half to the next version",
                expecting=1)

        said = []

        async def act():
            said.append(await rollout())
            await self.until_all_apply(10)

        tally = await self.while_requests_go_on(act())
        first, second = (tally.failures[place] for place in sorted(self.caller.idle))
        screen.line(f"\n   {tally.total} requests meanwhile: {screen.bold(f'{first} of cart-1 failed, {second} of cart-2')}")
        reason = re.search(r"compensated: ([\d.]+)% of (\d+) requests failed", said[0])
        self.require(
            reason and 20 <= float(reason[1]) <= 80 and int(reason[2]) <= tally.total,
            "the rollout should be compensated because about half of the requests through cart-1 fail")
        self.require(first > 0 and second == 0, "only requests of cart-1 should fail")
        self.look_for_trouble(tally)
        await self.outrigger("history")
        revisions = [number for number, _ in await self.revisions()]
        self.require(revisions[:2] == [before + 2, before + 1], f"the change and its undoing should be two revisions: {revisions}")
        await self.outrigger("diff", f"{before}", f"{before + 2}", "--exit-code")
        screen.line(f"   Nothing: revision {before + 2} is what revision {before} was.")

    async def kill(self):
        screen.heading(
            "13  The control plane dies while requests go on",
            "kill -9: no goodbye. The sidecars serve what they have, and come back when it does.")
        before = await self.revisions()

        async def act():
            self.say_command("kill", "-9", f"{self.outriggerd.process.pid}")
            self.outriggerd.process.send_signal(signal.SIGKILL)
            await self.outriggerd.process.wait()
            await self.outrigger("status", expecting=1)
            await asyncio.sleep(1.5)
            await self.start_control_plane()
            await self.until_all_apply(20)

        tally = await self.while_requests_go_on(act())
        await self.outrigger("status")
        self.require(await self.revisions() == before, "the history should be what it was")
        screen.line(f"\n   {screen.bold(f'{tally.total} requests meanwhile, {sum(tally.failures.values())} failures')}")
        self.rows.append(Row.of_all("13 the control plane dies and comes back", tally))
        self.look_for_trouble(tally)

    async def release(self):
        screen.heading("14  The bug is fixed, and the same change is released again", "The control plane that came back does it.")
        self.next_host.is_bad = False

        async def act():
            text = await self.outrigger(
                "apply", "-f", "mesh", "--rollout", "canary=1,100%", "--pause", "2s", "--wait", "--reason", "half to the next version")
            self.require("completed" in text, "the rollout should complete")

        tally = await self.while_requests_go_on(act())
        screen.line(f"\n   {screen.bold(f'{tally.total} requests meanwhile, {sum(tally.failures.values())} failures')}")
        self.rows.append(Row.of_all("14 a staged rollout that goes well", tally))
        self.look_for_trouble(tally)
        before = self.next_host.answers[200]
        await self.step(
            "    The same load again",
            ["Both carts give half to the next version."],
            Row("   half of it to the next version", "200 / 0  ", 200, 200, "expected"))
        share = self.next_host.answers[200] - before
        self.require(70 <= share <= 130, f"the next version should get about 100 of 200 requests: {share}")


def free_network():
    """The first three numbers of loopback addresses on which nobody has the ports that sidecars and applications take."""
    for number in range(64):
        network = f"127.0.{number}"
        if all(is_free(f"{network}.{last}", port) for _, _, last in PROXIES for port in (INBOUND_PORT, OUTBOUND_PORT, ADMIN_PORT, APP_PORT)):
            return network
    raise DemoError(
        f"the ports {INBOUND_PORT}, {OUTBOUND_PORT}, {ADMIN_PORT} and {APP_PORT} are not free: another program has one on all addresses")


def free_control_port():
    """Ours if it is free. Not one that the kernel gives to outgoing connections: it must still be free after a restart."""
    return next(port for port in range(CONTROL_PORT, CONTROL_PORT + 1000) if is_free("127.0.0.1", port))


def is_free(address, port):
    with socket.socket() as probe:
        # As servers do: connections that have ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True
