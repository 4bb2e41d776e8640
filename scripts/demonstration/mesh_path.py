"""The whole mesh path with mutual TLS: caller, sidecar A, HTTP/2 and TLS, sidecar B, host."""

import asyncio
import json
import re
import shutil
from pathlib import Path

from .program import free_port
from .screen import DemoError, screen
from .sidecar import Sidecar
from .stage import Row, Stage
from .traffic import AUTHORITY, HOSTS, Caller

EXAMPLE = Path(__file__).resolve().parents[2] / "mesh-config" / "mtls"
DOMAIN = "walkthrough"
WITHOUT_TLS = "as without TLS"


class MeshPath(Stage):
    """Five sidecars: one beside the caller, one beside each host."""

    async def set_up(self):
        screen.heading(
            "The whole mesh path, with mutual TLS",
            "caller -> sidecar A -- HTTP/2 and TLS, each side shows a certificate --> sidecar B -> host",
            f"Each of the {HOSTS} hosts has a sidecar B of its own. Caller and hosts go on to speak plain HTTP/1.1.",
            "It takes about 20 seconds.")
        shutil.copytree(EXAMPLE, self.folder, dirs_exist_ok=True)
        self.colors_yaml = (self.folder / "colors.yaml").read_text()
        self.local_yaml = (self.folder / "local.yaml").read_text()
        (self.folder / "colors.yaml").unlink()
        await self.make_certificates("certs", "frontend", "colors")
        await self.show_certificates()

        self.inner = [Sidecar(self.programs, self.folder, ["mesh.yaml", "local.yaml", f"colors-{host.name[-1]}.yaml"], "colors")
                      for host in self.hosts]
        self.outer = Sidecar(self.programs, self.folder, ["mesh.yaml", "local.yaml"], "frontend", {})
        # The last one's words are shown if something fails.
        self.sidecars = [*self.inner, self.outer]
        self.binds, self.admins = [0] * HOSTS, [0] * HOSTS
        self.take_outer_ports()
        await asyncio.gather(*(sidecar.start(lambda place=place: self.take_inner_ports(place))
                               for place, sidecar in enumerate(self.inner)))
        self.outer.names = {f"127.0.0.1:{port}": host.name for port, host in zip(self.binds, self.hosts)}
        await self.outer.start(self.take_outer_ports)

        screen.line(f"\n   {screen.bold('outrigger ' + ' '.join(self.inner[0].command))}   (B of host 1; likewise 2 to {HOSTS})")
        self.show_words(self.inner[0])
        screen.line(f"   {screen.bold('outrigger ' + ' '.join(self.outer.command))}   (A)")
        self.show_words(self.outer)
        return Caller([("127.0.0.1", self.outbound)], AUTHORITY)

    def show_words(self, sidecar):
        for line in sidecar.lines:
            if line.startswith("outrigger:"):
                screen.wrapped(line)

    # Certificates

    async def make_certificates(self, folder, *names):
        status, said = await self.run("./make-certificates", folder, DOMAIN, *names)
        if status:
            raise DemoError(f"make-certificates ended with {status}: {said}")

    async def show_certificates(self):
        screen.line(f"\n   {screen.bold(f'mesh-config/mtls/make-certificates certs {DOMAIN} frontend colors')}")
        for name, owner in (("frontend", "A"), ("colors", "every B")):
            screen.line(f"   certs/{name + '.pem':<13} {await self.identity(name):<30} for {owner}, signed by certs/ca.pem")

    async def identity(self, name):
        _, text = await self.run("openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", f"certs/{name}.pem")
        found = re.search(r"URI:(\S+?),", text)
        return found[1] if found else "no identity"

    async def run(self, *words):
        """Runs a program in the folder: its status, and all that it said."""
        process = await asyncio.create_subprocess_exec(
            *words, cwd=self.folder, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT)
        try:
            output, _ = await asyncio.wait_for(process.communicate(), 20)
        except (asyncio.TimeoutError, asyncio.CancelledError):
            process.kill()
            raise
        return process.returncode, output.decode("utf-8", "replace")

    # Ports

    def take_inner_ports(self, place):
        self.binds[place], self.admins[place] = free_port(), free_port()
        text = re.sub(r"bind: 127\.0\.0\.1:\d+", f"bind: 127.0.0.1:{self.binds[place]}", self.colors_yaml)
        text = re.sub(r"app: 127\.0\.0\.1:\d+", f"app: 127.0.0.1:{self.hosts[place].port}", text)
        text = re.sub(r"address: 127\.0\.0\.1:\d+", f"address: 127.0.0.1:{self.admins[place]}", text)
        (self.folder / f"colors-{place + 1}.yaml").write_text(text.rstrip() + f"""
  accessLog:
    path: access-{place + 1}.log
    format:
      json:
        - {{key: caller, value: "%DOWNSTREAM_PEER_URI_SAN%"}}
        - {{key: protocol, value: "%PROTOCOL%"}}
        - {{key: request, value: "%REQ(:METHOD)% %REQ(:PATH)%"}}
        - {{key: code, value: "%RESPONSE_CODE%"}}
        - {{key: app, value: "%UPSTREAM_HOST%"}}
""")

    def take_outer_ports(self):
        self.outbound, self.admin = free_port(), free_port()
        text = re.sub(r"bind: 127\.0\.0\.1:\d+", f"bind: 127.0.0.1:{self.outbound}", self.local_yaml)
        text = re.sub(r"address: 127\.0\.0\.1:\d+", f"address: 127.0.0.1:{self.admin}", text)
        ports = iter(self.binds)
        text = re.sub(r"( port: )\d+", lambda match: f"{match[1]}{next(ports) or 9}", text)
        text = text.replace("  admin:\n", "  outlierEventLog:\n    path: events.json\n  admin:\n")
        (self.folder / "local.yaml").write_text(text)

    # What happens

    async def play(self):
        await self.step(
            "6  Through both sidecars, all hosts are well",
            ["The same caller, the same load."],
            Row("6  mutual TLS, four good hosts", "200 / 0  ", 200, 200, WITHOUT_TLS))
        await self.show_identities()
        self.hosts[3].is_bad = True
        await self.step(
            "7  Host 4 answers 500 to everything",
            ["A sees it through TLS and HTTP/2 as it did without: the fifth error in a row ejects."],
            Row("7  mutual TLS, one bad host", "195 / 5  ", 193, 197, WITHOUT_TLS))
        await self.step(
            "   The same load again",
            ["The bad host is out, and no caller sees it."],
            Row("   the same load again", "200 / 0  ", 200, 200, WITHOUT_TLS))
        await self.show_metrics()
        await self.renew_certificates()
        await self.turn_strangers_away()

    async def show_identities(self):
        line = await self.first_line(self.folder / "access-1.log")
        screen.line("\n   Who calls? What the sidecar of host 1 logs of a request:")
        screen.wrapped(line, after=",")
        record = json.loads(line)
        caller = await self.identity("frontend")
        if (record["caller"], record["protocol"]) != (caller, "HTTP/2"):
            self.problems.append(f"the access log of host 1 should tell of {caller} by HTTP/2: {line}")
        found = re.search(r"(?im)^x-forwarded-client-cert: *(.*?)\r?$", self.hosts[0].heard)
        if found:
            screen.line("   and what it tells the host:")
            screen.wrapped(found[0].strip(), after=";")

        _, said = await self.client("-alpn", "h2", "-brief")
        seen = re.findall(r"(?m)^(?:Protocol version|Ciphersuite|Server Temp Key): *(.*)$", said)
        screen.line(f"   openssl s_client says of that sidecar: {', '.join(seen)}")
        if "TLSv1.3" not in seen:
            self.problems.append(f"between the sidecars it should be TLS 1.3: {said}")

    async def client(self, *words):
        """openssl, as the caller's sidecar would connect to the one of host 1."""
        return await self.run(
            "openssl", "s_client", "-connect", f"127.0.0.1:{self.binds[0]}", "-cert", "certs/frontend.pem",
            "-key", "certs/frontend.key", "-CAfile", "certs/ca.pem", *words)

    async def first_line(self, path):
        # The log is written within a second.
        for _ in range(100):
            if path.exists() and (lines := path.read_text().splitlines()):
                return lines[0]
            await asyncio.sleep(0.05)
        raise DemoError(f"{path.name} is empty")

    async def show_metrics(self):
        wanted = (
            "envoy_cluster_upstream_cx_total", "envoy_cluster_upstream_cx_http2_total", "envoy_cluster_ssl_handshake",
            "envoy_cluster_upstream_rq_total", "envoy_cluster_outlier_detection_ejections_active")
        screen.line(f"\n   Of A, curl http://127.0.0.1:{self.admin}/metrics      (the cluster is left out)")
        values = {}
        for line in (await self.outer.page(self.admin, "/metrics")).splitlines():
            name, _, rest = line.partition("{")
            if name in wanted and "egress" in rest:
                values[name] = int(float(line.split()[-1]))
        for name in wanted:
            screen.line("   " + screen.dim(f"{name:<52}{values.get(name, 'missing'):>6}"))
        connections, multiplexed, handshakes, requests, ejected = (values.get(name) for name in wanted)
        if ejected != 1:
            self.problems.append(f"one host should be ejected: {wanted[-1]} is {ejected}")
        if not connections or not connections == multiplexed == handshakes or connections > requests // 10:
            self.problems.append(
                f"{requests} requests should share a few connections of HTTP/2 and TLS: {connections}, {multiplexed} of HTTP/2, "
                f"{handshakes} of TLS")

    async def renew_certificates(self):
        screen.heading(
            "8  New certificates while requests go on", "The files are replaced; both sides take them without a connection dropped.")
        self.hosts[3].is_bad = False
        served = await self.served_serial()

        async def renew():
            await self.make_certificates("certs", "frontend", "colors")
            for _ in range(100):
                await asyncio.sleep(0.1)
                if await self.served_serial() != served:
                    return
            raise DemoError("the sidecar of host 1 still shows its old certificate after 10 s")

        tally = await self.while_requests_go_on(renew())
        screen.line(f"   host 1's sidecar shows: {served} -> {await self.served_serial()}")
        bad = tally.total - tally.status[200]
        screen.line("   " + screen.bold(f"{tally.total} requests meanwhile, {bad} failures"))
        self.look_for_trouble(tally)
        if bad:
            self.problems.append(f"{bad} of {tally.total} requests failed while certificates changed")

    async def served_serial(self):
        _, said = await self.client()
        certificate = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", said, re.DOTALL)
        if not certificate:
            raise DemoError(f"the sidecar of host 1 shows no certificate: {said}")
        (self.folder / "served.pem").write_text(certificate[0])
        _, said = await self.run("openssl", "x509", "-noout", "-serial", "-in", "served.pem")
        return said.strip()

    async def turn_strangers_away(self):
        screen.heading("9  Who else calls sidecar B of host 1")
        await self.make_certificates("others", "frontend")
        port = self.binds[0]
        mine = ["--cacert", "certs/ca.pem", "--resolve", f"{AUTHORITY}:{port}:127.0.0.1"]
        own, other, wrong = (["--cert", f"{path}.pem", "--key", f"{path}.key"]
                             for path in ("certs/frontend", "others/frontend", "certs/colors"))
        for who, is_welcome, words in (
            ("without TLS", False, [f"http://{AUTHORITY}:{port}/"]),
            ("without a certificate", False, [f"https://{AUTHORITY}:{port}/"]),
            ("the caller's name, signed by another authority", False, [*other, f"https://{AUTHORITY}:{port}/"]),
            ("the right authority, but another's certificate", False, [*wrong, f"https://{AUTHORITY}:{port}/"]),
            ("the caller's own certificate", True, [*own, f"https://{AUTHORITY}:{port}/"]),
        ):
            status, said = await self.run(
                "curl", "-sS", "--max-time", "5", "-o", "/dev/null", "-w", "HTTP/%{http_version} %{http_code}", *mine, *words)
            came_in = status == 0
            verdict = screen.green("let in" if came_in else "refused")
            if came_in != is_welcome:
                verdict = screen.red("LET IN" if came_in else "REFUSED")
                self.problems.append(f"{who}: {said}")
            # The alert that the sidecar sends, curl's own words, or the answer.
            told = re.search(r"alert [a-z ]+", said) or re.search(r"(?<=\d\) ).*", said) or [said]
            screen.line(f"   {who:<48} {verdict}{'' if not came_in else ' '}  {screen.dim(told[0] if not came_in else said)}")
