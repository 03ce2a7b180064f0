"""A server made as far away as it would be: what a client says waits for a while before it is passed on, once a request.

The S3 server of the tests answers within a millisecond; Amazon's takes tens of them. Where most of a step's time is spent
waiting for it, that makes the difference between what machines can share and what they cannot.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from urllib.parse import urlsplit

from s3logx_tests.s3_server import S3Server

_CHUNK = 1 << 18


@contextmanager
def far_away(server: S3Server, seconds: float) -> Iterator[S3Server]:
    """The same server, each of whose answers takes `seconds` longer."""
    port = urlsplit(server.endpoint).port
    loop = asyncio.new_event_loop()

    async def listen() -> asyncio.Server:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
            answered = asyncio.Event()
            answered.set()
            await asyncio.gather(
                _pass_on(reader, there_writer, answered, seconds), _pass_back(there_reader, writer, answered)
            )

        return await asyncio.start_server(connected, "127.0.0.1", 0)

    listening = loop.run_until_complete(listen())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield replace(server, endpoint=f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
    finally:
        asyncio.run_coroutine_threadsafe(_close(listening), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answered: asyncio.Event, seconds: float
) -> None:
    """A request waits at its beginning, which is what comes after an answer."""
    with suppress(OSError):
        while chunk := await reader.read(_CHUNK):
            if answered.is_set():
                answered.clear()
                await asyncio.sleep(seconds)
            writer.write(chunk)
            await writer.drain()
    writer.close()


async def _pass_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answered: asyncio.Event) -> None:
    with suppress(OSError):
        while chunk := await reader.read(_CHUNK):
            answered.set()
            writer.write(chunk)
            await writer.drain()
    writer.close()


async def _close(server: asyncio.Server) -> None:
    server.close()
    own = asyncio.current_task()
    others = [task for task in asyncio.all_tasks() if task is not own]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
