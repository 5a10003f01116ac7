"""A WebSocket peer: an echo server, or clients that check what an echo server sends back.

usage: websocket_peer.py serve ADDRESS PORT
       websocket_peer.py check ADDRESS PORT CLIENTS MESSAGES
"""

import asyncio
import hashlib
import sys

import websockets


async def echo(connection, path=None):
    async for message in connection:
        await connection.send(message)


async def serve(address, port):
    async with websockets.serve(echo, address, port, max_size=None):
        await asyncio.Future()


def payload(client, number):
    """Up to some 100 KB; every other one is text."""
    seed = hashlib.sha256(f"{client} {number}".encode()).hexdigest()
    text = seed * ((client * 7 + number * 131) % 1600)
    return text if number % 2 else text.encode()


async def check_one(address, port, client, messages):
    async with websockets.connect(f"ws://{address}:{port}/", max_size=None) as connection:
        for number in range(messages):
            sent = payload(client, number)
            await connection.send(sent)
            assert await connection.recv() == sent, f"client {client}, message {number}"
        pong = await connection.ping()
        await pong


async def check(address, port, clients, messages):
    checks = (check_one(address, port, client, messages) for client in range(clients))
    await asyncio.gather(*checks)
    print(f"{clients * messages} messages came back")


what, address, *numbers = sys.argv[1:]
asyncio.run({"serve": serve, "check": check}[what](address, *map(int, numbers)))
