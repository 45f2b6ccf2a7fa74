"""A mail server that keeps what it is sent: ``python -m services.sandbox.mail_sink --port 1025``.

Loopback only, no delivery, no sign-in. Every message becomes a ``.eml`` file, with the envelope in
``X-Sink-`` headers. Names sort by arrival. Speaks what ``smtplib`` needs of RFC 5321, no more.
"""

import asyncio
import itertools
import os
import signal
import sys
from argparse import ArgumentParser
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable
from pathlib import Path

from services.core.clock import utc_now
from services.core.files import make_private_folder, open_private

LONGEST_LINE_BYTES = 64 * 1024
LONGEST_MAIL_BYTES = 25 * 1024 * 1024


class MailSink:
    """Writes each accepted mail to ``folder``. A 250 after DATA means the file is complete under its name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = itertools.count(1)
        make_private_folder(folder)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Speak with one client until it quits or hangs up."""
        try:
            await _Session(self, reader, writer).run()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass  # The client hung up or sent a line without end: there is nobody left to tell.
        finally:
            writer.close()

    def store(self, sender: str, recipients: list[str], message: bytes) -> Path:
        """Write one mail and return its file."""
        envelope = f"X-Sink-From: {sender}\r\nX-Sink-To: {', '.join(recipients)}\r\n".encode()
        name = f"{utc_now():%Y%m%dT%H%M%S%f}-{os.getpid()}-{next(self._numbers):06d}.eml"
        unfinished = self.folder / (name + ".part")
        with open(unfinished, "wb", opener=open_private) as file:
            file.write(envelope + message)
        return unfinished.rename(self.folder / name)


class _Session:
    def __init__(self, sink: MailSink, reader: StreamReader, writer: StreamWriter) -> None:
        self.sink, self.reader, self.writer = sink, reader, writer
        self.sender = ""
        self.recipients: list[str] = []

    async def run(self) -> None:
        commands: dict[str, Callable[[str], Awaitable[str]]] = {
            "EHLO": self.ehlo,
            "HELO": self.reset,
            "MAIL": self.mail,
            "RCPT": self.rcpt,
            "DATA": self.data,
            "RSET": self.reset,
            "NOOP": self.noop,
        }
        await self.say("220 shopfleet mail sink, not for production")
        while line := await self.reader.readline():
            verb, _, rest = line.decode("latin-1").strip().partition(" ")
            if verb.upper() == "QUIT":
                await self.say("221 bye")
                return
            command = commands.get(verb.upper())
            await self.say(await command(rest) if command else f"502 {verb[:20]!r} is not known here")

    async def say(self, reply: str) -> None:
        self.writer.write(reply.encode("ascii", "replace") + b"\r\n")
        await self.writer.drain()

    async def ehlo(self, rest: str) -> str:
        await self.reset(rest)
        offers = ("shopfleet", f"SIZE {LONGEST_MAIL_BYTES}", "PIPELINING", "8BITMIME")
        return "".join(f"250-{offer}\r\n" for offer in offers) + "250 SMTPUTF8"

    async def reset(self, _rest: str) -> str:
        self.sender, self.recipients = "", []
        return "250 ok"

    async def noop(self, _rest: str) -> str:
        return "250 ok"

    async def mail(self, rest: str) -> str:
        self.sender, self.recipients = _address(rest), []
        return "250 ok" if rest.upper().startswith("FROM:") else "501 MAIL FROM:<address>"

    async def rcpt(self, rest: str) -> str:
        if not rest.upper().startswith("TO:") or not _address(rest):
            return "501 RCPT TO:<address>"
        self.recipients.append(_address(rest))
        return "250 ok"

    async def data(self, _rest: str) -> str:
        if not self.recipients:
            return "503 RCPT first"
        await self.say("354 end with a line that is one dot")
        message = bytearray()
        while (line := await self.reader.readline()) not in (b".\r\n", b".\n"):
            if not line:
                raise ConnectionResetError
            if len(message) <= LONGEST_MAIL_BYTES:
                message += line.removeprefix(b".")
        if len(message) > LONGEST_MAIL_BYTES:
            return f"552 more than {LONGEST_MAIL_BYTES} bytes"
        file = self.sink.store(self.sender, self.recipients, bytes(message))
        await self.reset("")
        return f"250 kept as {file.name}"


def _address(rest: str) -> str:
    return rest.partition("<")[2].partition(">")[0]


async def run(port: int, folder: Path) -> None:
    """Serve on loopback until cancelled; says where on standard error."""
    server = await asyncio.start_server(
        MailSink(folder).serve, "127.0.0.1", port, limit=LONGEST_LINE_BYTES, backlog=128
    )
    bound = server.sockets[0].getsockname()[1]
    sys.stderr.write(f"SANDBOX - not for production: mail sink on 127.0.0.1:{bound}, files in {folder}\n")
    sys.stderr.flush()
    async with server:
        await server.serve_forever()


def main(arguments: list[str] | None = None) -> int:
    """Serve until interrupted; return 0. A taken port ends it with a message that names the port."""
    parser = ArgumentParser(prog="python -m services.sandbox.mail_sink", description=__doc__)
    parser.add_argument("--port", type=int, default=1025, help="0 picks a free one")
    parser.add_argument("--folder", type=Path, help="default: mail under FLEET_HOME")
    options = parser.parse_args(arguments)
    folder = options.folder or Path(os.environ.get("FLEET_HOME") or ".fleet") / "mail"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        asyncio.run(run(options.port, folder))
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        sys.stderr.write(f"mail sink: port {options.port} on 127.0.0.1 cannot be used: {error.strerror}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
