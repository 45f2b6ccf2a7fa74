"""A mail server that stores each mail as a file: ``python -m services.sandbox.mail_sink --port 1025``.

Loopback only, no delivery, no sign-in. Each mail becomes a ``.eml`` file with the envelope in ``X-Sink-``
headers; names sort by arrival. Implements only the part of RFC 5321 that ``smtplib`` needs.
"""

import itertools
import os
from argparse import ArgumentParser
from contextlib import suppress
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

from services.core.clock import utc_now
from services.core.files import make_private_folder, open_private
from services.sandbox.process import run_server

LONGEST_LINE_BYTES = 64 * 1024
LONGEST_MAIL_BYTES = 25 * 1024 * 1024


class MailSink(ThreadingTCPServer):
    """Writes each accepted mail to ``folder``. After the 250 to DATA the file is complete."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, folder: Path) -> None:
        self.folder = folder
        self._numbers = itertools.count(1)
        make_private_folder(folder)
        super().__init__(("127.0.0.1", port), _Session)

    def store(self, sender: str, recipients: list[str], message: bytes) -> Path:
        envelope = f"X-Sink-From: {sender}\r\nX-Sink-To: {', '.join(recipients)}\r\n".encode()
        name = f"{utc_now():%Y%m%dT%H%M%S%f}-{os.getpid()}-{next(self._numbers):06d}.eml"
        unfinished = self.folder / (name + ".part")
        with open(unfinished, "wb", opener=open_private) as file:
            file.write(envelope + message)
        return unfinished.rename(self.folder / name)


class _Session(StreamRequestHandler):
    server: MailSink
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.sender = ""
        self.recipients: list[str] = []

    def handle(self) -> None:
        with suppress(ConnectionError):
            self.reply("220 shopfleet mail sink, not for production")
            while (line := self.read_line()) and not line.upper().startswith(b"QUIT"):
                verb, _, rest = line.decode("latin-1").strip().partition(" ")
                command = getattr(self, f"do_{verb.lower()}", None)
                self.reply(command(rest) if command else f"502 {verb[:20]!r} is not implemented")
            self.reply("221 bye")

    def read_line(self) -> bytes:
        """Return a line, or nothing if the client closed the connection or the line is too long."""
        line = self.rfile.readline(LONGEST_LINE_BYTES)
        return line if line.endswith(b"\n") else b""

    def reply(self, text: str) -> None:
        self.wfile.write(text.encode("ascii", "replace") + b"\r\n")

    def do_ehlo(self, rest: str) -> str:
        self.do_rset(rest)
        extensions = ("shopfleet", f"SIZE {LONGEST_MAIL_BYTES}", "PIPELINING", "8BITMIME")
        return "".join(f"250-{name}\r\n" for name in extensions) + "250 SMTPUTF8"

    def do_rset(self, _rest: str) -> str:
        self.sender, self.recipients = "", []
        return "250 ok"

    do_helo = do_rset

    def do_noop(self, _rest: str) -> str:
        return "250 ok"

    def do_mail(self, rest: str) -> str:
        self.sender, self.recipients = _address(rest), []
        return "250 ok" if rest.upper().startswith("FROM:") else "501 MAIL FROM:<address>"

    def do_rcpt(self, rest: str) -> str:
        if not rest.upper().startswith("TO:") or not _address(rest):
            return "501 RCPT TO:<address>"
        self.recipients.append(_address(rest))
        return "250 ok"

    def do_data(self, _rest: str) -> str:
        if not self.recipients:
            return "503 RCPT first"
        self.reply("354 end with a line that is one dot")
        message = bytearray()
        while (line := self.read_line()) not in (b".\r\n", b".\n"):
            if not line:
                raise ConnectionResetError
            if len(message) <= LONGEST_MAIL_BYTES:
                message += line.removeprefix(b".")
        if len(message) > LONGEST_MAIL_BYTES:
            return f"552 more than {LONGEST_MAIL_BYTES} bytes"
        file = self.server.store(self.sender, self.recipients, bytes(message))
        self.do_rset("")
        return f"250 stored as {file.name}"


def _address(rest: str) -> str:
    return rest.partition("<")[2].partition(">")[0]


def main() -> int:
    parser = ArgumentParser(prog="python -m services.sandbox.mail_sink", description=__doc__)
    parser.add_argument("--port", type=int, default=1025, help="0 picks a free one")
    parser.add_argument("--folder", type=Path, help="default: mail under FLEET_HOME")
    options = parser.parse_args()
    folder = options.folder or Path(os.environ.get("FLEET_HOME") or ".fleet") / "mail"
    note = f", files in {folder}"
    return run_server("mail sink", options.port, lambda port: MailSink(port, folder), note)


if __name__ == "__main__":
    raise SystemExit(main())
