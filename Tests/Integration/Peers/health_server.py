"""A gRPC server with grpc.health.v1.Health/Check, its messages by hand. Says its port, then serves until it is ended.

    health_server.py FILE

FILE says how it is: SERVING, NOT_SERVING, a status of gRPC such as UNIMPLEMENTED, or HANG. Every check is a line in FILE.log: the
size of the request and the caller's user-agent.
"""
import asyncio
import sys

import grpc


async def check(request, context):
    metadata = dict(context.invocation_metadata())
    with open(sys.argv[1] + ".log", "a") as log:
        print(len(request), metadata.get("user-agent"), file=log)
    with open(sys.argv[1]) as file:
        word = file.read().strip()
    if word == "HANG":
        await asyncio.sleep(600)
    if word in ("SERVING", "NOT_SERVING"):
        return b"\x08" + bytes([1 if word == "SERVING" else 2])
    await context.abort(grpc.StatusCode[word], "as asked")


async def main():
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handlers = {"Check": grpc.unary_unary_rpc_method_handler(check)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


asyncio.run(main())
