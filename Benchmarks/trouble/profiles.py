"""The proxies, each with its best settings for hosts in trouble; ours also without any, and with App Mesh's."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sidebyside.peers import HOST, REPOSITORY, PeerError, first_line, system_binary
from sidebyside.proxies.envoy import EXTENSIONS, address


@dataclass
class Place:
    """Where one start of a proxy happens."""

    directory: Path
    port: int
    admin: int
    hosts: list[int]
    #: With the settings of App Mesh's walkthrough, and without retries.
    is_walkthrough: bool = False

    def write(self, name: str, text: str) -> str:
        path = self.directory / name
        path.write_text(text)
        return str(path)


@dataclass
class Profile:
    name: str
    #: The command that runs the proxy in the foreground, after writing its configuration.
    command: Callable[[Place], list[str]]
    #: How many attempts were made again, as the proxy counts them.
    retries: Callable[[Place], int]
    version: str = ""
    #: Why it cannot take part, with what to do about it.
    missing: str | None = None
    #: Whose figures the rows' bounds are for.
    is_judged: bool = False


def absent(name: str, reason: str) -> Profile:
    return Profile(name, lambda _: [], lambda _: 0, missing=reason)


def statistics(place: Place, names: list[str]) -> int:
    """The sum of these counters over all clusters, from an admin page as Envoy's."""
    with urllib.request.urlopen(f"http://127.0.0.1:{place.admin}/stats?filter=upstream_rq_retry", timeout=5) as response:
        lines = response.read().decode().splitlines()
    return sum(int(line.rpartition(" ")[2]) for line in lines if line.partition(":")[0].rpartition(".")[2] in names)


# Outrigger


@dataclass(frozen=True)
class Policy:
    """What differs between the meshes of our profiles, in YAML: a document of its own, and what the hosts' listener says."""

    document: str = ""
    listener: str = ""
    #: What App Mesh does by itself; else a route that forbids them.
    retries: bool = True


def outrigger(name: str, directory: Path, policy: Callable[[Place], Policy]) -> Profile:
    proxy, cli = directory / "outrigger-proxy", directory / "outrigger"
    for program in (proxy, cli):
        if not os.access(program, os.X_OK):
            return absent(name, f"no {program}: swift build -c release, or --outrigger DIRECTORY")

    def command(place: Place) -> list[str]:
        file = place.directory / "snapshot"
        source = place.write("mesh.yaml", mesh(place, policy(place)))
        done = subprocess.run(
            [str(cli), "render", "-f", source, "--node", "caller", "-o", "snapshot", "--output", str(file)],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        if done.returncode != 0:
            raise PeerError(f"outrigger render ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
        return [str(proxy), "--snapshot", str(file)]

    counters = ["upstream_rq_retry", "upstream_rq_retry_keepalive_race", "upstream_rq_retry_unprocessed"]
    version = str(directory.relative_to(REPOSITORY)) if directory.is_relative_to(REPOSITORY) else "given"
    return Profile(name, command, lambda place: statistics(place, counters), version=version)


def none(directory: Path) -> Profile:
    return outrigger("none", directory, lambda _: Policy(retries=False))


def appmesh(directory: Path) -> Profile:
    def policy(place: Place) -> Policy:
        interval, percent = (30, 100) if place.is_walkthrough else (1, 50)
        listener = f"""
    outlierDetection:
      maxServerErrors: 5
      interval: {interval}s
      baseEjectionDuration: 10s
      maxEjectionPercent: {percent}
"""
        return Policy(listener=listener, retries=not place.is_walkthrough)

    return outrigger("appmesh", directory, policy)


def standard(directory: Path) -> Profile:
    document = """
---
apiVersion: outrigger/v1
kind: TrafficPolicy
metadata: {name: hosts, namespace: bench}
spec:
  targetRef: {kind: VirtualNode, name: hosts}
  resilience: standard
"""
    profile = outrigger("standard", directory, lambda _: Policy(document=document))
    profile.is_judged = True
    return profile


def mesh(place: Place, policy: Policy) -> str:
    """A node that calls one service of some hosts."""
    provider = "virtualNode: {virtualNodeRef: {name: hosts}}" if policy.retries else "virtualRouter: {virtualRouterRef: {name: hosts}}"
    endpoints = "\n".join(f"  - {{address: 127.0.0.1, port: {port}}}" for port in place.hosts)
    return f"""
apiVersion: v1
kind: Namespace
metadata: {{name: bench, labels: {{mesh: bench}}}}
---
apiVersion: appmesh.k8s.aws/v1beta2
kind: Mesh
metadata: {{name: bench}}
spec:
  namespaceSelector:
    matchLabels: {{mesh: bench}}
---
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualNode
metadata: {{name: caller, namespace: bench}}
spec:
  backends:
  - virtualService:
      virtualServiceRef: {{name: hosts}}
---
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualService
metadata: {{name: hosts, namespace: bench}}
spec:
  awsName: {HOST}
  provider:
    {provider}
{"" if policy.retries else ROUTER}
---
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualNode
metadata: {{name: hosts, namespace: bench}}
spec:
  listeners:
  - portMapping: {{port: 8080, protocol: http}}
{policy.listener}
  serviceDiscovery:
    awsCloudMap: {{namespaceName: bench, serviceName: hosts}}
---
apiVersion: outrigger/v1
kind: EndpointSet
metadata: {{name: hosts, namespace: bench}}
spec:
  virtualNodeRef: {{name: hosts}}
  endpoints:
{endpoints}
{policy.document}
---
apiVersion: outrigger/v1
kind: Sidecar
metadata: {{name: caller, namespace: bench}}
spec:
  virtualNodeRef: {{name: caller}}
  admin: {{address: "127.0.0.1:{place.admin}"}}
  workers: 1
  outbound:
    http: {{bind: "127.0.0.1:{place.port}"}}
"""


ROUTER = """
---
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualRouter
metadata: {name: hosts, namespace: bench}
spec:
  listeners:
  - portMapping: {port: 8080, protocol: http}
  routes:
  - name: all
    httpRoute:
      match: {prefix: /}
      action:
        weightedTargets:
        - virtualNodeRef: {name: hosts}
          weight: 1
      retryPolicy:
        maxRetries: 0
        perRetryTimeout: 15s
        httpRetryEvents: [server-error]
"""


# Envoy


def envoy(given: str | None) -> Profile:
    venv = Path(os.environ.get("OUTRIGGER_TOOLS_VENV") or Path.home() / ".cache/outrigger/venv")
    found = [Path(given)] if given else sorted(venv.glob("lib/python3*/site-packages/envoy/_bin/envoy"))
    if not found or not found[0].is_file():
        return absent("envoy", f"not in {given or venv}: run Benchmarks/setup, or set OUTRIGGER_TOOLS_VENV, or --envoy PATH")
    binary = str(found[0])

    def command(place: Place) -> list[str]:
        file = place.write("envoy.json", json.dumps(bootstrap(place), indent=1))
        return [binary, "-c", file, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]

    return Profile(
        "envoy", command, lambda place: statistics(place, ["upstream_rq_retry"]), first_line([binary, "--version"], r"/(\d+\.\d+\.\d+)/")
    )  # fmt: skip


def bootstrap(place: Place) -> dict[str, object]:
    retries = {
        "retry_on": "5xx,reset,connect-failure,refused-stream",
        "num_retries": 2,
        "per_try_timeout": "1s",
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {"@type": f"{EXTENSIONS}.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
            },
        ],
        "host_selection_retry_max_attempts": 5,
    }
    action = {"cluster": "hosts", "timeout": "15s", **({} if place.is_walkthrough else {"retry_policy": retries})}
    route = {"match": {"prefix": "/"}, "route": action}
    manager = {
        "@type": f"{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "downstream",
        "codec_type": "HTTP1",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{EXTENSIONS}.filters.http.router.v3.Router"}},
        ],
    }
    many = 100000
    budget = {"budget_percent": {"value": 20}, "min_retry_concurrency": 3}
    cluster = {
        "name": "hosts",
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": "ROUND_ROBIN",
        "circuit_breakers": {
            "thresholds": [{"max_connections": many, "max_pending_requests": many, "max_requests": many, "retry_budget": budget}],
        },
        "outlier_detection": {
            "consecutive_5xx": 5, "consecutive_gateway_failure": 5, "enforcing_consecutive_gateway_failure": 100,
            "enforcing_success_rate": 0, "interval": "30s" if place.is_walkthrough else "1s", "base_ejection_time": "10s",
            "max_ejection_percent": 100 if place.is_walkthrough else 50,
        },
        "load_assignment": {
            "cluster_name": "hosts",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}} for port in place.hosts]}],
        },
    }  # fmt: skip
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    listener = {"name": "downstream", "address": address(place.port), "filter_chains": [chain]}
    return {"admin": {"address": address(place.admin)}, "static_resources": {"listeners": [listener], "clusters": [cluster]}}


# HAProxy

RETRIES = """
    retries 2
    option redispatch 1
    retry-on conn-failure empty-response response-timeout 500 502 503 504
"""


def haproxy() -> Profile:
    binary = system_binary("haproxy")
    if not binary:
        return absent("haproxy", "apt-get install haproxy, or Benchmarks/setup")

    def command(place: Place) -> list[str]:
        retries = "" if place.is_walkthrough else RETRIES
        servers = "\n".join(f"    server host{index} 127.0.0.1:{port}" for index, port in enumerate(place.hosts))
        text = f"""
global
    nbthread 1
    maxconn 5000
    stats socket {place.directory}/stats level admin
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 1s
    timeout http-keep-alive 60s
    http-reuse always
{retries}
frontend downstream
    bind 127.0.0.1:{place.port} backlog 4096
    default_backend hosts
backend hosts
    balance roundrobin
    default-server check inter 1s fall 2 rise 2 observe layer7 error-limit 5 on-error mark-down slowstart 10s
{servers}
"""
        return [binary, "-db", "-f", place.write("haproxy.cfg", text)]

    def count(place: Place) -> int:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(5)
            asking.connect(str(place.directory / "stats"))
            asking.sendall(b"show stat\n")
            text = b"".join(iter(lambda: asking.recv(65536), b"")).decode()
        head, *lines = text.strip().splitlines()
        names = head.lstrip("# ").split(",")
        rows = [dict(zip(names, line.split(","))) for line in lines]
        # With `redispatch 1` every retry is one; `wretr` has only those after an answer.
        return sum(int(row["wredis"] or 0) for row in rows if re.fullmatch(r"host\d+", row["svname"]))

    return Profile("haproxy", command, count, first_line([binary, "-v"], r"version (\S+?)[-\s]"))
