"""Ten WebSockets at once, each with messages of many sizes that must come back.

    websocket_client.py PORT
"""
import asyncio
import os
import sys

import websockets


async def talk():
    async with websockets.connect(f"ws://127.0.0.1:{sys.argv[1]}/chat", max_size=None, proxy=None) as socket:
        for size in (0, 1, 125, 126, 65536, 1000000):
            message = os.urandom(size)
            await socket.send(message)
            assert await socket.recv() == message, size
        await (await socket.ping())


async def main():
    await asyncio.gather(*(talk() for _ in range(10)))


asyncio.run(main())
print("all equal")
