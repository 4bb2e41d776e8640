"""A control plane that is not ours: state of the world over ADS, with the messages of xds-protos, and a taker of reports.

    ads_server.py FOLDER [PORT]

Serves what FOLDER/config.json says and looks at it often: {"push": ["Cluster", ...], "versions": {"Cluster": "1", ...},
"resources": {"Cluster": [JSON of the message, ...], ...}}. A type is pushed when its version changes, in the order of "push". Listeners
and clusters are answered whole, other types by the names that were asked for. Writes to FOLDER/log, one JSON object a line, what comes:
every request, the beginning and end of streams, and every report (its bytes in base64). Says its port, then serves until it is ended.

FOLDER may hold ca.pem, server.pem and server.key: then it speaks TLS and wants a client's certificate.
"""
import asyncio
import base64
import json
import os
import sys

import grpc
from google.protobuf import any_pb2, json_format
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401 (packed into listeners)
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2  # noqa: F401
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_pb2  # noqa: F401
from envoy.service.discovery.v3 import discovery_pb2

TYPES = {
    "Cluster": (cluster_pb2.Cluster, "name"),
    "ClusterLoadAssignment": (endpoint_pb2.ClusterLoadAssignment, "cluster_name"),
    "Listener": (listener_pb2.Listener, "name"),
    "RouteConfiguration": (route_pb2.RouteConfiguration, "name"),
    "Secret": (secret_pb2.Secret, "name"),
}
URLS = {f"type.googleapis.com/{message.DESCRIPTOR.full_name}": kind for kind, (message, _) in TYPES.items()}
WILDCARD = {"Cluster", "Listener"}


class Server:
    def __init__(self, folder):
        self.folder = folder
        self.config = {"push": [], "versions": {}, "resources": {}}
        self.streams = set()
        self.seen = None
        self.log_file = open(os.path.join(folder, "log"), "a", buffering=1)

    def log(self, **words):
        self.log_file.write(json.dumps(words) + "\n")

    async def watch(self):
        path = os.path.join(self.folder, "config.json")
        while True:
            try:
                facts = os.stat(path)
                seen = (facts.st_ino, facts.st_mtime_ns)
                if seen != self.seen:
                    with open(path) as file:
                        self.config = json.load(file)
                    self.seen = seen
                    for stream in list(self.streams):
                        await stream.push()
            except FileNotFoundError:
                pass
            await asyncio.sleep(0.01)

    async def stream(self, requests, context):
        stream = Stream(self, context)
        self.streams.add(stream)
        self.log(event="open")
        try:
            await stream.push()
            async for data in requests:
                await stream.take(discovery_pb2.DiscoveryRequest.FromString(data))
        finally:
            self.streams.discard(stream)
            self.log(event="close")

    async def reports(self, requests, context):
        await context.write(b"\x08\xc8\x01")  # ReportReply {interval: 200}
        async for data in requests:
            self.log(report=base64.b64encode(data).decode())


class Stream:
    def __init__(self, server, context):
        self.server = server
        self.context = context
        self.names = {}
        self.sent = {}
        self.nonces = {}
        self.count = 0

    async def take(self, request):
        kind = URLS.get(request.type_url)
        words = {"type": kind or request.type_url, "version": request.version_info, "nonce": request.response_nonce,
                 "names": list(request.resource_names)}
        if request.HasField("node"):
            words["node"] = json_format.MessageToDict(request.node)
        if request.HasField("error_detail"):
            words["error"] = request.error_detail.message
        self.server.log(**words)
        if kind is None or request.response_nonce != self.nonces.get(kind, "") and request.response_nonce:
            return
        before = self.names.get(kind)
        self.names[kind] = set(request.resource_names)
        first = kind not in self.sent and not request.response_nonce
        # At a reconnect what is held need not be sent again, but names must be answered.
        if first and kind in WILDCARD and request.version_info and request.version_info == self.version(kind):
            self.sent[kind] = request.version_info
        elif first or self.names[kind] - (before or set()):
            await self.send(kind)

    def version(self, kind):
        return self.server.config["versions"].get(kind)

    async def push(self):
        for kind in self.server.config["push"]:
            if kind in self.names and self.version(kind) != self.sent.get(kind):
                await self.send(kind)

    async def send(self, kind):
        version = self.version(kind)
        if version is None:
            return
        message, key = TYPES[kind]
        response = discovery_pb2.DiscoveryResponse(version_info=version, type_url=f"type.googleapis.com/{message.DESCRIPTOR.full_name}")
        for resource in self.server.config["resources"].get(kind, []):
            value = json_format.ParseDict(resource, message())
            if kind in WILDCARD or getattr(value, key) in self.names[kind]:
                packed = any_pb2.Any()
                packed.Pack(value, deterministic=True)
                response.resources.append(packed)
        self.count += 1
        response.nonce = self.nonces[kind] = f"{kind}-{self.count}"
        self.sent[kind] = version
        await self.context.write(response.SerializeToString())


async def main():
    folder = sys.argv[1]
    port = sys.argv[2] if len(sys.argv) > 2 else "0"
    service = Server(folder)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_send_message_length", -1)])
    stream = grpc.stream_stream_rpc_method_handler
    server.add_generic_rpc_handlers((
        grpc.method_handlers_generic_handler(
            "envoy.service.discovery.v3.AggregatedDiscoveryService", {"StreamAggregatedResources": stream(service.stream)}),
        grpc.method_handlers_generic_handler("outrigger.v1.Reports", {"Stream": stream(service.reports)}),
    ))
    if os.path.exists(os.path.join(folder, "server.pem")):
        def read(name):
            with open(os.path.join(folder, name), "rb") as file:
                return file.read()
        credentials = grpc.ssl_server_credentials([(read("server.key"), read("server.pem"))], read("ca.pem"), True)
        port = server.add_secure_port(f"127.0.0.1:{port}", credentials)
    else:
        port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print(port, flush=True)
    await service.watch()


asyncio.run(main())
