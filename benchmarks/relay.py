"""A relay that makes a connection long: bytes arrive later, and some requests get an error.

`python -m benchmarks.relay relay LISTEN TARGET DELAY_S [FAIL_EVERY]` holds every byte back for half
of DELAY_S in each direction, and a new connection for all of it; each FAIL_EVERYth request a 503.
`… source LISTEN BYTES` sends that much to whoever connects; `… drain TARGET CONNECTIONS` takes all
of it and prints the seconds: the plain transfer that shows what a line can do.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time

_BLOCK = 1 << 18
_HELD = 64  # blocks under way in one direction of one connection: 16 MB, far above 1 Gbit/s × 30 ms
_METHODS = (b"GET /v2", b"HEAD /v2", b"POST /v2", b"PUT /v2", b"PATCH /v2")
_FAILURE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Relay:
    """Between clients and one server."""

    def __init__(self, target: tuple[str, int], delay_s: float, fail_every: int) -> None:
        self.target = target
        self.delay_s = delay_s
        self.fail_every = fail_every
        self.requests = 0

    async def serve(self, host: str, port: int) -> None:
        """Until the process is ended."""
        server = await asyncio.start_server(self._client, host, port, limit=_BLOCK)
        async with server:
            await server.serve_forever()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self.delay_s)  # the handshake
        there_reader, there_writer = await asyncio.open_connection(*self.target, limit=_BLOCK)
        try:
            await asyncio.gather(
                self._carry(reader, there_writer, writer),
                self._carry(there_reader, writer, None),
            )
        except OSError:
            pass
        finally:
            for one in (writer, there_writer):
                one.close()

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answer: asyncio.StreamWriter | None,
    ) -> None:
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_HELD)
        sending = asyncio.create_task(self._send(held, writer))
        try:
            while data := await reader.read(_BLOCK):
                if answer is not None and self._fails(data):
                    answer.write(_FAILURE)
                    await answer.drain()
                    answer.close()
                    break
                await held.put((time.monotonic() + self.delay_s / 2, data))
        finally:
            await held.put((0.0, b""))
            await sending

    async def _send(
        self, held: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        while True:
            due, data = await held.get()
            if not data:
                writer.close()
                return
            wait = due - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            if not writer.is_closing():
                writer.write(data)
                await writer.drain()

    def _fails(self, data: bytes) -> bool:
        if not self.fail_every or not data.startswith(_METHODS):
            return False
        self.requests += 1
        return self.requests % self.fail_every == 0


def source(host: str, port: int, size_bytes: int) -> None:
    """Sends so many bytes to each who connects."""
    block = bytes(_BLOCK)

    def send(connection: socket.socket) -> None:
        with connection:
            for _ in range(size_bytes // _BLOCK):
                connection.sendall(block)

    with socket.create_server((host, port)) as server:
        while True:
            threading.Thread(target=send, args=(server.accept()[0],), daemon=True).start()


def drain(host: str, port: int, connections: int) -> float:
    """Seconds until all that is sent over so many connections arrived."""

    def take() -> None:
        buffer = bytearray(_BLOCK)
        with socket.create_connection((host, port), 20) as connection:
            while connection.recv_into(buffer):
                pass

    begin = time.monotonic()
    threads = [threading.Thread(target=take) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - begin


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def main(words: list[str]) -> None:
    """One of the three."""
    mode, address = words[0], _address(words[1])
    if mode == "relay":
        relay = Relay(_address(words[2]), float(words[3]), int(words[4]) if words[4:] else 0)
        asyncio.run(relay.serve(*address))
    elif mode == "source":
        source(*address, int(words[2]))
    else:
        print(drain(*address, int(words[2])))


if __name__ == "__main__":
    main(sys.argv[1:])
