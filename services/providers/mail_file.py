"""Mail into a folder, one ``.eml`` file each: for a trial, or for a program that takes it from there."""

import os
from pathlib import Path

from services.core.errors import Misconfigured, RetryLater
from services.core.files import make_private_folder, open_private
from services.providers.mime import render_mime
from services.providers.outgoing_mail import OutgoingMail


class FileTransport:
    """Writes letters to ``folder``, for its owner alone to read. A file is complete once it has its name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def send(self, letter: OutgoingMail) -> str:
        """The letter is the file ``<message id>.eml``; return its name. A second time it is the same file."""
        name = letter.message_id.replace("/", "_").replace("\\", "_").lstrip(".") + ".eml"
        unfinished = self._folder / f".{name}.part"
        try:
            make_private_folder(self._folder)
            with open(unfinished, "wb", opener=open_private) as file:
                file.write(render_mime(letter))
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(self._folder / name)
        except (PermissionError, NotADirectoryError, FileExistsError) as fault:
            raise Misconfigured(
                "file.not_writable",
                f"MAIL_FOLDER {str(self._folder)!r}: {fault.strerror}; let us write there",
            ) from fault
        except OSError as fault:
            raise RetryLater("file.not_written", f"{str(self._folder)!r}: {fault.strerror}") from fault
        return name

    def close(self) -> None:
        """Nothing is kept open."""
