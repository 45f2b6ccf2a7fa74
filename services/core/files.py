"""Files with personal data or secrets: only their owner may read them, with any umask."""

import os
from pathlib import Path


def open_private(path: str, flags: int) -> int:
    """Return a descriptor of ``path``; a new file has the mode 600. An ``opener`` for ``open``."""
    return os.open(path, flags, 0o600)


def make_private_folder(folder: Path) -> Path:
    """Create ``folder`` and its missing parents with the mode 700; return it."""
    for path in reversed((folder, *folder.parents)):
        if not path.is_dir():
            path.mkdir(mode=0o700, exist_ok=True)
    return folder
