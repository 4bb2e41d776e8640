"""Calls the server of grpc_server.py. Says what a test compares; what must hold in any case is asserted here.

    grpc_client.py PORT COMMAND [ARGUMENT]...
"""
import asyncio
import os
import sys
import threading
import time

import grpc

OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
]


def said(error):
    return f"{error.code().name} {error.details()}"


def unary(channel, count="10"):
    for number in range(int(count)):
        message = os.urandom(number * 100)
        answer, call = channel.unary_unary("/test.Peer/Unary").with_call(message)
        assert answer == message
        assert ("x-initial", "1") in [tuple(pair) for pair in call.initial_metadata()], call.initial_metadata()
        trailing = [tuple(pair) for pair in call.trailing_metadata()]
        assert ("x-trailing", "2") in trailing and ("x-trailing-bin", b"\x00\xff") in trailing, trailing
    return "ok"


def client_stream(channel):
    return channel.stream_unary("/test.Peer/Sum")(iter([b"x" * size for size in range(200)])).decode()


def server_stream(channel):
    numbers = [int(answer) for answer in channel.unary_stream("/test.Peer/Count")(b"500")]
    assert numbers == list(range(500)), numbers
    return "ok"


def bidi(channel):
    """Each message is sent when the answer to the one before has come."""
    turn = threading.Semaphore(1)

    def requests():
        for number in range(200):
            assert turn.acquire(timeout=30)
            yield str(number).encode()

    count = 0
    for answer in channel.stream_stream("/test.Peer/Echo")(requests()):
        assert answer == str(count).encode(), answer
        count += 1
        turn.release()
    return str(count)


def large(channel, size="4194304"):
    message = os.urandom(int(size))
    assert channel.unary_unary("/test.Peer/Unary")(message) == message
    assert list(channel.stream_stream("/test.Peer/Echo")(iter([message] * 4))) == [message] * 4
    return "ok"


def fail(channel, code, message, method="Fail"):
    try:
        answers = list(channel.unary_stream(f"/test.Peer/{method}")(f"{code} {message}".encode()))
        return f"OK {answers}"
    except grpc.RpcError as error:
        return said(error)


def fail_late(channel, code, message):
    call = channel.unary_stream("/test.Peer/FailLate")(f"{code} {message}".encode())
    assert next(call) == b"first"
    try:
        next(call)
    except grpc.RpcError as error:
        return said(error)


def fails(channel, count, code, method="Fail"):
    """So many calls; how many ended with the code."""
    return str(sum(fail(channel, code, "again", method).startswith(code) for _ in range(int(count))))


def deadline(channel, seconds):
    """A call that would take for ever, with a deadline."""
    started = time.monotonic()
    try:
        channel.unary_unary("/test.Peer/Wait")(b"", timeout=float(seconds))
        return "OK"
    except grpc.RpcError as error:
        return f"{error.code().name} {time.monotonic() - started < float(seconds) + 10}"


def time_left(channel, seconds=None):
    """How much of the deadline the server sees."""
    return channel.unary_unary("/test.Peer/Deadline")(b"", timeout=None if seconds is None else float(seconds)).decode()


def cancel(channel, count="5"):
    """Calls that are given up; how many of them the server saw end."""
    calls = [channel.unary_unary("/test.Peer/Wait").future(b"") for _ in range(int(count))]
    time.sleep(0.3)
    for call in calls:
        call.cancel()
    until = time.monotonic() + 20
    while time.monotonic() < until:
        seen = int(channel.unary_unary("/test.Peer/Cancelled")(b""))
        if seen >= int(count):
            break
        time.sleep(0.05)
    return str(seen)


def call(channel, method="/test.Peer/Unary", seconds="30"):
    try:
        channel.unary_unary(method)(b"hello", timeout=float(seconds))
        return "OK"
    except grpc.RpcError as error:
        return said(error)


def metadata(channel):
    return channel.unary_unary("/test.Peer/Metadata")(b"", metadata=(("x-text", "a b"), ("x-data-bin", b"\x00\x01"))).decode()


def metadata_call(channel, key, value):
    """One call with this metadata."""
    try:
        return channel.unary_unary("/test.Peer/Unary")(b"hello", metadata=((key, value),), timeout=30).decode()
    except grpc.RpcError as error:
        return said(error)


def streams(channel, count="1000"):
    """So many calls that are open at the same time, each with messages both ways."""

    async def one(channel, number, opened, may_end):
        stream = channel.stream_stream("/test.Peer/Echo")()
        for part in range(3):
            message = f"{number} {part}".encode()
            await stream.write(message)
            assert await stream.read() == message
            if part == 0:
                opened.release()
                await may_end.wait()
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
        assert await stream.code() == grpc.StatusCode.OK

    async def all_of_them(count):
        opened, may_end = asyncio.Semaphore(0), asyncio.Event()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{sys.argv[1]}", options=OPTIONS) as channel:
            tasks = [asyncio.create_task(one(channel, number, opened, may_end)) for number in range(count)]
            for _ in range(count):
                await asyncio.wait_for(opened.acquire(), 60)
            may_end.set()
            await asyncio.gather(*tasks)

    asyncio.run(all_of_them(int(count)))
    return "ok"


with grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}", options=OPTIONS) as channel:
    print(globals()[sys.argv[2]](channel, *sys.argv[3:]))
