"""What is measured: the scenarios, and which rows of the table each one fills."""

from __future__ import annotations

from dataclasses import dataclass

from .legs import H1, H2C, MTLS_H1, MTLS_H2, TLS_H1, TLS_H2, Leg


@dataclass(frozen=True)
class Row:
    """A line of the table: a figure that each measurement of a scenario yields."""

    key: str
    title: str
    unit: str = "CPU µs/request"
    #: The figure of a measurement, by its name there; None: that of the row's key.
    figure: str | None = None
    #: The figure is what the proxy adds to that of direct calls.
    over_direct: bool = False


#: Whose figures a proxy's are divided by: in the scenarios of plain HTTP/1.1, and in all others.
PLAIN_BASES = ("floor", "nginx")
BASES = ("best", "envoy")


@dataclass(frozen=True)
class Scenario:
    name: str
    rows: tuple[Row, ...]
    #: From the caller to the origin; three legs are a mesh of two proxies.
    legs: tuple[Leg, ...] = (H1, H1)
    path: str = "/1k"
    body: int = 1024
    #: A POST of `body` bytes, which comes back.
    post: bool = False
    #: A unary gRPC call, a message of 123 bytes each way.
    grpc: bool = False
    connections: int = 64
    #: Of each HTTP/2 connection: requests under way at once.
    streams: int = 32
    churn: bool = False
    #: Connections resume the session of an earlier one.
    resume: bool = False
    #: Requests a second of an open loop; None: each connection sends its next request at once. A proxy that cannot keep up shows
    #: it in the latency, and in failures once it is five seconds late.
    rate: int | None = None
    kind: str = "load"
    #: Whose figures the others are divided by.
    bases: tuple[str, ...] = ()
    #: Repeats to a percent: one round tells.
    once: bool = False

    @property
    def is_mesh(self) -> bool:
        return len(self.legs) == 3


def load(name: str, title: str, unit: str = "CPU µs/request", **rest: object) -> Scenario:
    legs = rest.get("legs", (H1, H1))
    return Scenario(name, (Row(name, f"{name}: {title}", unit),), bases=PLAIN_BASES if legs == (H1, H1) else BASES, **rest)


def http2(name: str, title: str, **rest: object) -> Scenario:
    return load(name, title, connections=16, **rest)


def idle(name: str, row: Row, downstream: Leg) -> Scenario:
    return Scenario(name, (row,), legs=(downstream, H1), kind="memory", bases=BASES, once=True)


#: By group, in the order of the table.
GROUPS = {
    "plain": [
        load("h1", "keep-alive, 64 connections, 1 KiB"),
        load("h1-64k", "64 KiB response", path="/64k", body=64 * 1024),
        load("h1-1m", "1 MiB response, 16 connections", "CPU s/GiB", path="/1m", body=1024 * 1024, connections=16),
        load("post-16k", "16 KiB request body, echoed", path="/echo", body=16 * 1024, post=True),
        load("churn", "a connection per request", churn=True),
        Scenario(
            "latency",
            (
                Row("latency-p50", "added latency at 2,000 req/s, open loop, p50", "µs", figure="p50", over_direct=True),
                Row("latency-p99", "the same, p99", "µs", figure="p99", over_direct=True),
                Row("latency-cpu", "CPU at 2,000 req/s", figure="cpu"),
            ),
            connections=32,
            rate=2000,
            bases=PLAIN_BASES,
        ),
        Scenario(
            "memory",
            (
                Row("rss", "idle memory (RSS)", "MiB"),
                Row("pss", "idle memory (PSS)", "MiB"),
                Row("idle", "memory per idle connection", "bytes"),
            ),
            kind="memory",
            bases=PLAIN_BASES,
        ),
        Scenario("start", (Row("start", "start to the first proxied byte", "ms"),), kind="start", bases=PLAIN_BASES),
    ],
    "http2": [
        http2("h2c-h1", "16 connections of 32 streams, 1 KiB", legs=(H2C, H1)),
        http2("h2c-h2c", "the same, HTTP/2 on both sides", legs=(H2C, H2C)),
        load("h1-h2c", "64 connections", legs=(H1, H2C)),
    ],
    "tls": [
        load("tls-h1", "HTTP/1.1 over TLS 1.3, 64 connections", legs=(TLS_H1, H1)),
        http2("tls-h2", "HTTP/2 over TLS 1.3 to HTTP/1.1", legs=(TLS_H2, H1)),
        load("tls-conn", "a TLS handshake per request", legs=(TLS_H1, H1), connections=32, churn=True),
        load("mtls-conn", "a mutual TLS handshake per request", legs=(MTLS_H1, H1), connections=32, churn=True),
        load("mtls-resumed", "the same, resumed", legs=(MTLS_H1, H1), connections=32, churn=True, resume=True),
        idle("memory-tls", Row("idle-tls", "memory per idle TLS connection", "bytes"), TLS_H1),
        idle("memory-mtls", Row("idle-mtls", "memory per idle mTLS connection", "bytes"), MTLS_H1),
    ],
    "mesh": [
        load("mesh-h1", "h1 → A –mTLS, HTTP/1.1→ B → h1, both", legs=(H1, MTLS_H1, H1)),
        load("mesh-h2", "h1 → A –mTLS, HTTP/2→ B → h1, both", legs=(H1, MTLS_H2, H1)),
        http2(
            "mesh-grpc", "gRPC over h2c → A –mTLS, HTTP/2→ B → h2c, both", legs=(H2C, MTLS_H2, H2C), grpc=True, path="/bench.Echo/Call",
            body=128,
        ),
        Scenario(
            "mesh-latency",
            (
                Row("mesh-latency-p50", "added latency through the mesh at 2,000 req/s, p50", "µs", figure="p50", over_direct=True),
                Row("mesh-latency-cpu", "CPU of both at 2,000 req/s", figure="cpu"),
            ),
            legs=(H1, MTLS_H2, H1),
            connections=32,
            rate=2000,
            bases=BASES,
        ),
    ],
}  # fmt: skip

SCENARIOS = [scenario for scenarios in GROUPS.values() for scenario in scenarios]
