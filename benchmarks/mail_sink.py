"""A mail server that only counts: ``python -m benchmarks.mail_sink --port 0 --delay-ms 10``.

Offers PIPELINING as any server does today. Each reply leaves ``delay-ms`` after the one before it on the
same connection, or after the command: a server that thinks, seen from near by.
"""

import asyncio
import sys
from argparse import ArgumentParser

TEXT_END = b"\r\n.\r\n"


class Counter:
    """What has arrived: mails, the different Message-IDs among them, and connections."""

    def __init__(self) -> None:
        self.mails = self.connections = 0
        self.ids: set[bytes] = set()

    def add(self, message: bytes) -> None:
        self.mails += 1
        start = message.find(b"Message-ID:")
        self.ids.add(message[start : message.find(b"\r\n", start)])


class Talk(asyncio.Protocol):
    """One connection."""

    def __init__(self, counter: Counter, delay_seconds: float) -> None:
        self.counter, self.delay_seconds = counter, delay_seconds
        self.loop = asyncio.get_running_loop()
        self.waiting, self.in_text, self.due = b"", False, 0.0
        self.replies: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.counter.connections += 1
        self.replies.append(b"220 sink\r\n")
        self.say()

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        while self.take():
            pass
        self.say()

    def take(self) -> bool:
        if self.in_text:
            text, end, rest = self.waiting.partition(TEXT_END)
            if not end:
                return False
            self.counter.add(text)
            self.in_text, self.waiting = False, rest
            self.replies.append(b"250 kept\r\n")
            return True
        line, end, rest = self.waiting.partition(b"\r\n")
        if not end:
            return False
        self.waiting = rest
        verb = line[:4].upper()
        if verb == b"DATA":
            self.in_text = True
            self.replies.append(b"354 go on\r\n")
        elif verb == b"EHLO":
            self.replies.append(b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
        elif verb == b"QUIT":
            self.replies.append(b"221 bye\r\n")
        elif verb == b"XSTA":
            c = self.counter
            self.replies.append(b"250 %d %d %d\r\n" % (c.mails, len(c.ids), c.connections))
        else:
            self.replies.append(b"250 ok\r\n")
        return True

    def say(self) -> None:
        replies, self.replies = self.replies, []
        if not self.delay_seconds:
            self.transport.write(b"".join(replies))
            return
        for reply in replies:
            self.due = max(self.due, self.loop.time()) + self.delay_seconds
            self.loop.call_at(self.due, self.transport.write, reply)


async def serve(port: int, delay_seconds: float) -> None:
    """Serve on loopback until killed; the port is the first line on standard output."""
    counter = Counter()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Talk(counter, delay_seconds), "127.0.0.1", port, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay-ms", type=float, default=0)
    args = parser.parse_args()
    try:
        asyncio.run(serve(args.port, args.delay_ms / 1000))
    except KeyboardInterrupt:
        sys.exit(0)
