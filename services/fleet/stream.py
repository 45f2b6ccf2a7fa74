"""One stream of log lines from many processes, each line under its process's name."""

import os
import threading
from collections.abc import Iterable
from typing import TextIO

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
_LONGEST_LINE_BYTES = 65_536


class LogStream:
    """Writes ``name | line``. Names are coloured on a terminal only, and never with ``NO_COLOR`` set."""

    def __init__(self, names: Iterable[str], out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        ordered = list(names)
        self._width = max(map(len, ordered), default=0)
        coloured = out.isatty() and not os.environ.get("NO_COLOR")
        self._colours = {n: _COLOURS[i % len(_COLOURS)] for i, n in enumerate(ordered)} if coloured else {}
        self.broken = False
        """True once the output is closed; further lines are dropped."""

    def write(self, name: str, line: str) -> None:
        """Write one line of the process ``name``."""
        label = f"{name:<{self._width}} |"
        if name in self._colours:
            label = f"\x1b[{self._colours[name]}m{label}\x1b[0m"
        with self._lock:
            if self.broken:
                return
            try:
                self._out.write(f"{label} {self._writable(line)}\n")
                self._out.flush()
            except (OSError, ValueError):  # the pipe, the terminal or the file is gone
                self.broken = True

    def _writable(self, line: str) -> str:
        """Return ``line`` with escapes for characters that this stream's encoding lacks."""
        encoding = self._out.encoding or "utf-8"
        return line.encode(encoding, "backslashreplace").decode(encoding)


class LineBuffer:
    """Splits one process's output into lines; a line without end is split at 64 KiB."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[str]:
        """Return the lines that ``chunk`` completes."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > _LONGEST_LINE_BYTES:
            lines.append(self._rest)
            self._rest = b""
        return [line.rstrip(b"\r").decode(errors="replace") for line in lines]

    def drain(self) -> list[str]:
        """Return what is left at the end of the output."""
        rest, self._rest = self._rest, b""
        return [rest.decode(errors="replace")] if rest else []
