"""A gRPC client that reads xDS by itself: calls TARGET until its answers say what is wanted, then COUNT times, none of which may fail.

    xds_client.py CONTROL_PLANE_PORT NODE_ID TARGET COUNT
"""
import json
import os
import sys

port, node, target, count = sys.argv[1:]
# Read when grpc is loaded.
os.environ["GRPC_XDS_BOOTSTRAP_CONFIG"] = json.dumps({
    "xds_servers": [
        {"server_uri": f"127.0.0.1:{port}", "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}],
    "node": {"id": node, "cluster": "test"},
})

import grpc  # noqa: E402

with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
    call = channel.unary_unary("/test.Peer/Unary")
    assert call(b"first", wait_for_ready=True, timeout=60) == b"first"
    for number in range(int(count)):
        message = str(number).encode()
        assert call(message, timeout=60) == message
print("ok")
