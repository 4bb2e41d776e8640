import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from ..legs import H1, Leg, Role
from ..peers import HOST, REPOSITORY, Peer, PeerError, Place, absent, plain_http1


def outrigger(given: str | None, snapshot: str | None, snapshot_port: int | None, free_port: Callable[[], int]) -> Peer:
    """The proxy under test; `given` is [NAME=]PATH of outrigger-proxy, with the CLI `outrigger` beside it."""
    name, separator, path = (given or "").rpartition("=")
    name = name if separator else "outrigger"
    proxy = Path(path or REPOSITORY / ".build/release/outrigger-proxy")
    cli = proxy.parent / "outrigger"
    if not os.access(proxy, os.X_OK):
        return absent(name, f"no {proxy}: swift build -c release, or --outrigger PATH")
    if not snapshot and not os.access(cli, os.X_OK):
        return absent(name, f"no {cli}, which renders the snapshot: swift build -c release, or --snapshot FILE")

    def command(place: Place) -> list[str]:
        if snapshot:
            return [str(proxy), "--snapshot", snapshot]
        file = place.directory / "snapshot"
        source = place.write("mesh.yaml", mesh(place, admin=free_port()))
        option = "--gateway" if subject(place) == "edge" else "--node"
        done = subprocess.run(
            [str(cli), "render", "-f", source, option, subject(place), "-o", "snapshot", "--output", str(file)],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        if done.returncode != 0:
            raise PeerError(f"outrigger render ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
        return [str(proxy), "--snapshot", str(file)]

    return Peer(
        name, command, version=str(proxy.relative_to(REPOSITORY)) if proxy.is_relative_to(REPOSITORY) else "given",
        speaks=plain_http1 if snapshot else lambda downstream, upstream: True, fixed_port=snapshot_port if snapshot else None, tested=True,
    )  # fmt: skip


def subject(place: Place) -> str:
    """Whose proxy it is: the outbound side of a node, its inbound side, or a gateway, which takes any protocol and TLS."""
    if place.role is Role.CALLEE or is_http1_caller(place):
        return "origin"
    return "caller" if place.role is Role.CALLER or place.downstream == place.upstream == H1 else "edge"


def is_http1_caller(place: Place) -> bool:
    """Two sidecars agree on HTTP/2 wherever TLS lets them. What speaks HTTP/1.1 over mutual TLS is a sidecar to its own application."""
    return place.role is Role.CALLER and place.upstream.secure and not place.upstream.http2


def mesh(place: Place, admin: int) -> str:
    """The mesh of the comparison: a node and a gateway that call one service. The origin is named by address: no DNS takes part."""
    # Between sidecars the service's protocol is that of its application: what carries it is theirs to agree.
    protocol = "grpc" if place.grpc else "http2" if place.role is Role.ALONE and place.upstream.http2 else "http"
    gateway_protocol = "http2" if place.downstream.http2 else "http"
    bind = f'"127.0.0.1:{place.port}"'
    unused = '"127.0.0.1:1"'
    who = subject(place)
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
metadata: {{name: caller, namespace: bench}}
spec:
  backends:
  - virtualService:
      virtualServiceRef: {{name: origin}}
{backend_tls(place)}
---
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualGateway
metadata: {{name: edge, namespace: bench}}
spec:
  namespaceSelector:
    matchLabels: {{mesh: bench}}
  listeners:
  - portMapping: {{port: 8080, protocol: {gateway_protocol}}}
{listener_tls(place, place.downstream)}
---
apiVersion: appmesh.k8s.aws/v1beta2
kind: GatewayRoute
metadata: {{name: origin, namespace: bench}}
spec:
  {gateway_protocol}Route:
    match: {{prefix: /}}
    action:
      target:
        virtualService:
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
  - portMapping: {{port: 8080, protocol: {protocol}}}
    outlierDetection:
      maxServerErrors: 5
      interval: {{unit: s, value: 10}}
      baseEjectionDuration: {{unit: s, value: 30}}
      maxEjectionPercent: 50
{"" if place.role is Role.ALONE else listener_tls(place, place.upstream if who == "caller" else place.downstream)}
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
metadata: {{name: caller, namespace: bench}}
spec:
  virtualNodeRef: {{name: caller}}
  admin: {{address: "127.0.0.1:{admin}"}}
  workers: 1
  outbound:
    http: {{bind: {bind if who == "caller" else unused}}}
---
apiVersion: outrigger/v1
kind: Sidecar
metadata: {{name: edge, namespace: bench}}
spec:
  virtualGatewayRef: {{name: edge}}
  admin: {{address: "127.0.0.1:{admin}"}}
  workers: 1
  inbound:
  - {{port: 8080, bind: {bind if who == "edge" else unused}}}
---
apiVersion: outrigger/v1
kind: Sidecar
metadata: {{name: origin, namespace: bench}}
spec:
  virtualNodeRef: {{name: origin}}
  admin: {{address: "127.0.0.1:{admin}"}}
  workers: 1
  inbound:
  - port: 8080
    bind: {bind if who == "origin" else unused}
    app: "127.0.0.1:{place.origin}"
{app_tls(place) if is_http1_caller(place) else ""}
"""


def listener_tls(place: Place, leg: Leg) -> str:
    if not leg.secure:
        return ""
    files = place.certificates
    text = f"""
    tls:
      mode: STRICT
      certificate:
        file: {{certificateChain: {files.server.chain}, privateKey: {files.server.key}}}
"""
    if leg.mutual:
        text += f"""
      validation:
        trust:
          file: {{certificateChain: {files.authority}}}
"""
    return text


def backend_tls(place: Place) -> str:
    if not place.upstream.secure:
        return ""
    return f"""
      clientPolicy:
        tls:
{client_tls(place)}
"""


def app_tls(place: Place) -> str:
    return f"""
    appTLS:
          serverName: {HOST}
{client_tls(place)}
"""


def client_tls(place: Place) -> str:
    files = place.certificates
    text = f"""
          validation:
            trust:
              file: {{certificateChain: {files.authority}}}
            subjectAlternativeNames:
              match:
                exact: [{HOST}]
"""
    if place.upstream.mutual:
        text += f"""
          certificate:
            file: {{certificateChain: {files.client.chain}, privateKey: {files.client.key}}}
"""
    return text
