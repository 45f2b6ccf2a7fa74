"""Writes mail into a folder, one ``.eml`` file each: for tests, or for a program that sends them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from services.core.errors import Misconfigured, RetryLater
from services.core.files import make_private_folder, open_private
from services.providers.mime import render_mime
from services.providers.outgoing_mail import MailTransport, OutgoingMail


class FileTransport(MailTransport):
    """Writes mails to ``folder``, readable by its owner only. A file gets its name once it is complete."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def send(self, mail: OutgoingMail) -> str:
        """Write ``<message id>.eml`` and return its name; a repeat writes the same file."""
        name = mail.message_id.replace("/", "_").replace("\\", "_").lstrip(".") + ".eml"
        unfinished = self._folder / f".{name}.part"
        with self._translated_errors():
            make_private_folder(self._folder)
            with open(unfinished, "wb", opener=open_private) as file:
                file.write(render_mime(mail))
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(self._folder / name)
        return name

    def check(self) -> str:
        probe = self._folder / f".{uuid4().hex}.part"
        with self._translated_errors():
            make_private_folder(self._folder)
            open(probe, "wb", opener=open_private).close()
            probe.unlink()
        return f"{self._folder} can be written"

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (PermissionError, NotADirectoryError, FileExistsError) as fault:
            raise Misconfigured(
                "file.not_writable",
                f"MAIL_FOLDER {str(self._folder)!r}: {fault.strerror}; give the workers write access",
            ) from fault
        except OSError as fault:
            raise RetryLater("file.not_written", f"{str(self._folder)!r}: {fault.strerror}") from fault
