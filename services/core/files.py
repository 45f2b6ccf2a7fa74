"""Files that hold personal data or secrets: open to their owner alone, whatever the umask is."""

import os
from pathlib import Path


def open_private(path: str, flags: int) -> int:
    """Return a descriptor of ``path``; what this makes has the mode 600. An ``opener`` for ``open``."""
    return os.open(path, flags, 0o600)


def make_private_folder(folder: Path) -> Path:
    """Return ``folder``; each folder of its path that was not there is made with the mode 700."""
    for path in reversed((folder, *folder.parents)):
        if not path.is_dir():
            path.mkdir(mode=0o700, exist_ok=True)
    return folder
