#!/usr/bin/env python3
"""Reads a snapshot file with the real xDS classes (PyPI: xds-protos, protobuf) and, if asked, shows it to a real Envoy.

    check_with_xds_protos.py SNAPSHOT                   prints the resources as JSON, by type
    check_with_xds_protos.py SNAPSHOT --rewrite OUT     writes the snapshot again, every message serialized by the real classes
    check_with_xds_protos.py SNAPSHOT --bootstrap OUT   writes a bootstrap for `envoy --mode validate` with the resources in it

Fails if any field of any message is unknown to the real classes.
"""

import argparse
import importlib
import json
import sys

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, json_format, message_factory, unknown_fields, wrappers_pb2

MODULES = """
envoy.config.bootstrap.v3.bootstrap_pb2
envoy.config.cluster.v3.cluster_pb2
envoy.config.endpoint.v3.endpoint_pb2
envoy.config.listener.v3.listener_pb2
envoy.config.route.v3.route_pb2
envoy.extensions.access_loggers.file.v3.file_pb2
envoy.extensions.filters.http.fault.v3.fault_pb2
envoy.extensions.filters.http.local_ratelimit.v3.local_rate_limit_pb2
envoy.extensions.filters.http.router.v3.router_pb2
envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2
envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2
envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2
envoy.extensions.retry.host.previous_hosts.v3.previous_hosts_pb2
envoy.extensions.transport_sockets.raw_buffer.v3.raw_buffer_pb2
envoy.extensions.transport_sockets.tls.v3.tls_pb2
envoy.extensions.transport_sockets.tls.v3.secret_pb2
envoy.extensions.upstreams.http.v3.http_protocol_options_pb2
envoy.extensions.upstreams.tcp.v3.tcp_protocol_options_pb2
envoy.service.discovery.v3.discovery_pb2
""".split()

# Fields of Envoy 1.40 that xds-protos 1.85 does not have yet.
NEWER_FIELDS = {("envoy.config.core.v3.HealthCheck", 27)}

for module in MODULES:
    importlib.import_module(module)


def our_messages():
    """The classes of docs/snapshot-format.md: SnapshotFile, and SnapshotContent as its field `content` holds it."""
    file = descriptor_pb2.FileDescriptorProto(name="outrigger/snapshot.proto", package="outrigger", syntax="proto3")
    file.dependency.extend([
        "envoy/config/core/v3/base.proto", "envoy/config/core/v3/address.proto", "envoy/service/discovery/v3/discovery.proto",
        "google/protobuf/wrappers.proto", "google/protobuf/duration.proto"])
    field = descriptor_pb2.FieldDescriptorProto

    def message(name, *fields):
        entry = file.message_type.add(name=name)
        for number, (field_name, kind, label) in enumerate(fields, 1):
            added = entry.field.add(name=field_name, number=number, label=label)
            if isinstance(kind, str):
                added.type, added.type_name = field.TYPE_MESSAGE, kind
            else:
                added.type = kind

    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    message("SnapshotFile", ("magic", field.TYPE_FIXED64, one), ("format", field.TYPE_UINT32, one),
            ("content_hash", field.TYPE_FIXED64, one), ("content", field.TYPE_BYTES, one))
    message("BreakerOverride", ("cluster", field.TYPE_STRING, one), ("endpoint", field.TYPE_STRING, one),
            ("action", field.TYPE_STRING, one), ("until_ms", field.TYPE_INT64, one))
    message("ProcessSettings", ("admin_address", ".envoy.config.core.v3.Address", one), ("workers", ".google.protobuf.UInt32Value", one),
            ("drain_time", ".google.protobuf.Duration", one), ("expose_reply_details", field.TYPE_BOOL, one),
            ("outlier_event_log_path", field.TYPE_STRING, one), ("max_memory_bytes", field.TYPE_UINT64, one),
            ("min_body_rate", ".google.protobuf.UInt32Value", one), ("stuck_time", ".google.protobuf.Duration", one),
            ("overrides", ".outrigger.BreakerOverride", many))
    message("SnapshotContent", ("node", ".envoy.config.core.v3.Node", one), ("process", ".outrigger.ProcessSettings", one),
            ("responses", ".envoy.service.discovery.v3.DiscoveryResponse", many))
    pool = descriptor_pool.Default()
    pool.Add(file)
    return [message_factory.GetMessageClass(pool.FindMessageTypeByName(f"outrigger.{name}")) for name in ("SnapshotFile", "SnapshotContent")]


def unpack(packed):
    name = packed.type_url.rsplit("/", 1)[1]
    message = message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))()
    message.ParseFromString(packed.value)
    return message


def walk(message, path):
    """Refuses unknown fields, and serializes what is packed again, from the inside out."""
    name = message.DESCRIPTOR.full_name
    unknown = [field.field_number for field in unknown_fields.UnknownFieldSet(message)]
    if any((name, number) not in NEWER_FIELDS for number in unknown):
        sys.exit(f"{path}: unknown fields {unknown} in {name}")
    if isinstance(message, any_pb2.Any):
        inner = unpack(message)
        walk(inner, path)
        message.value = inner.SerializeToString(deterministic=True)
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for key in value:
                    walk(value[key], f"{path}.{field.name}[{key}]")
        elif field.is_repeated:
            for index, item in enumerate(value):
                walk(item, f"{path}.{field.name}[{index}]")
        else:
            walk(value, f"{path}.{field.name}")


def content_hash(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def bootstrap(content, resources):
    """Static resources, with the routes inside of the listeners: a bootstrap has no other place for them.

    Health checks get names, which the JSON of older classes leaves out.
    """
    for cluster in resources.get("Cluster", []):
        for index, check in enumerate(cluster.get("health_checks", [])):
            check["name"] = str(index)
    routes = {route["name"]: route for route in resources.get("RouteConfiguration", [])}

    def inline(value):
        if isinstance(value, dict):
            if "rds" in value:
                value["route_config"] = routes[value.pop("rds")["route_config_name"]]
            for item in value.values():
                inline(item)
        elif isinstance(value, list):
            for item in value:
                inline(item)

    listeners = resources.get("Listener", [])
    inline(listeners)
    http2 = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    ads = {
        "name": "ads", "type": "STATIC", "load_assignment": {"cluster_name": "ads", "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 1}}}}]}]},
        "typed_extension_protocol_options": {
            http2: {"@type": f"type.googleapis.com/{http2}", "explicit_http_config": {"http2_protocol_options": {}}}},
    }
    return {
        "node": json_format.MessageToDict(content.node, preserving_proto_field_name=True),
        "dynamic_resources": {"ads_config": {"api_type": "GRPC", "transport_api_version": "V3",
                                             "grpc_services": [{"envoy_grpc": {"cluster_name": "ads"}}]}},
        "static_resources": {"listeners": listeners, "clusters": resources.get("Cluster", []) + [ads]},
    }


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("snapshot")
    arguments.add_argument("--rewrite")
    arguments.add_argument("--bootstrap")
    arguments = arguments.parse_args()

    snapshot_file, snapshot_content = our_messages()
    with open(arguments.snapshot, "rb") as stream:
        file = snapshot_file.FromString(stream.read())
    if file.content_hash != content_hash(file.content):
        sys.exit("the hash is not the content's")
    content = snapshot_content.FromString(file.content)
    walk(file, "file")
    walk(content, "content")

    resources = {}
    for response in content.responses:
        if any(resource.type_url != response.type_url for resource in response.resources):
            sys.exit(f"a resource that is no {response.type_url}")
        messages = [json_format.MessageToDict(unpack(resource), preserving_proto_field_name=True) for resource in response.resources]
        resources[response.type_url.rsplit(".", 1)[1]] = messages

    if arguments.rewrite:
        file.content = content.SerializeToString(deterministic=True)
        file.content_hash = content_hash(file.content)
        with open(arguments.rewrite, "wb") as stream:
            stream.write(file.SerializeToString(deterministic=True))
    elif arguments.bootstrap:
        with open(arguments.bootstrap, "w", encoding="utf-8") as stream:
            json.dump(bootstrap(content, resources), stream)
    else:
        json.dump({"node": json_format.MessageToDict(content.node, preserving_proto_field_name=True), **resources}, sys.stdout)


main()
