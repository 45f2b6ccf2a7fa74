"""smtplib's clients with a limit of lines per reply. smtplib itself has none."""

import smtplib
import socket
from functools import cache
from typing import BinaryIO

REPLY_LINES = 100


class ReplyTooLong(OSError):
    """A reply has more than ``REPLY_LINES`` lines. At any ``OSError`` smtplib closes the connection."""


class _ReplyFile:
    """The lines from a server. ``lines_left`` is how many the current reply may still have."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.close = file, file.close
        self.lines_left = REPLY_LINES

    def readline(self, size: int) -> bytes:
        if self.lines_left == 0:
            raise ReplyTooLong
        self.lines_left -= 1
        return self._file.readline(size)


class SmtpClient(smtplib.SMTP):
    """Reads at most ``REPLY_LINES`` lines of a reply; raises ``SMTPServerDisconnected`` for a longer one."""

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            self.file = _ReplyFile(self.sock.makefile("rb"))
        if self.file is not None:
            self.file.lines_left = REPLY_LINES
        return super().getreply()


class SmtpSslClient(SmtpClient, smtplib.SMTP_SSL):
    """``SmtpClient`` over TLS from the start."""


@cache
def find_host_name() -> str:
    """Return this machine's name for EHLO; looked up once, as that may take seconds."""
    name = socket.getfqdn()
    return name if "." in name else "[127.0.0.1]"


def describe_unreachable(fault: Exception, where: str, seconds: float) -> str:
    """Return why the mail server at ``where`` cannot be reached; ``seconds``: the limit of a wait."""
    text = getattr(fault, "strerror", None) or str(fault)[:200] or type(fault).__name__
    if isinstance(fault, socket.gaierror) and fault.errno == socket.EAI_NONAME:
        text = "no server has this name"
    elif isinstance(fault, TimeoutError):
        text = f"no answer within {seconds:g} s"
    return f"the mail server {where} cannot be reached: {text}"
