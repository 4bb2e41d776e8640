"""A gRPC server whose messages are plain bytes. Says its port, then serves until it is ended.

    grpc_server.py [PORT]
"""
import asyncio
import sys

import grpc

cancelled = 0


async def unary(request, context):
    await context.send_initial_metadata((("x-initial", "1"),))
    context.set_trailing_metadata((("x-trailing", "2"), ("x-trailing-bin", b"\x00\xff")))
    return request


async def fail(request, context):
    """Ends with the code and message of the request, without a response message: trailers only."""
    code, _, message = request.decode().partition(" ")
    await context.abort(grpc.StatusCode[code], message)


async def fail_late(request, context):
    """The same behind one message: the code stands in trailers."""
    yield b"first"
    code, _, message = request.decode().partition(" ")
    await context.abort(grpc.StatusCode[code], message)


async def sum_up(requests, context):
    sizes = [len(request) async for request in requests]
    return f"{len(sizes)} {sum(sizes)}".encode()


async def count(request, context):
    for number in range(int(request)):
        yield str(number).encode()


async def echo(requests, context):
    async for request in requests:
        yield request


async def wait(request, context):
    global cancelled
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        cancelled += 1
        raise
    return b"too late"


async def cancelled_calls(request, context):
    return str(cancelled).encode()


async def deadline(request, context):
    """Seconds that are left of the call."""
    left = context.time_remaining()
    return b"none" if left is None else f"{left:.6f}".encode()


async def metadata(request, context):
    return "\n".join(f"{key}: {value}" for key, value in context.invocation_metadata()).encode()


async def main():
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)]
    )
    one, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    handlers = {
        "Unary": one(unary),
        "Fail": one(fail),
        "FailLate": stream(fail_late),
        "Sum": grpc.stream_unary_rpc_method_handler(sum_up),
        "Count": stream(count),
        "Echo": grpc.stream_stream_rpc_method_handler(echo),
        "Wait": one(wait),
        "Cancelled": one(cancelled_calls),
        "Deadline": one(deadline),
        "Metadata": one(metadata),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Peer", handlers),))
    port = server.add_insecure_port(f"127.0.0.1:{sys.argv[1] if len(sys.argv) > 1 else 0}")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


asyncio.run(main())
