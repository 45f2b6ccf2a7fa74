"""Rules of form with a shrinking list of exceptions: file length, class names, access to rows.

``exceptions.txt`` has one line per exception. ``python -m tests.structure.exceptions`` deletes the lines that
are no longer needed; it never adds one.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).with_name("exceptions.txt")
MAX_LINES = 300
_CLASS = re.compile(r"^\s*class (\w+)[(:]", re.MULTILINE)
_BY_POSITION = re.compile(r"(?<!\*)\*row\b(?![.])|\brow\[-?\d")
_MIGRATIONS = "services/schema/versions/"


def find_exceptions() -> set[str]:
    """Return a line for each place that breaks a rule: the rule and the file, or the class name."""
    return {*_long_files(), *_repeated_class_names(), *_rows_by_position()}


def read_exceptions() -> list[str]:
    """Return the lines of ``exceptions.txt``."""
    return FILE.read_text().splitlines()


def _sources(*folders: str) -> Iterator[tuple[str, str]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text()


def _long_files() -> Iterator[str]:
    for path, text in _sources("services", "tasks", "tests"):
        if text.count("\n") > MAX_LINES and not path.startswith(_MIGRATIONS):
            yield f"long_file {path}"


def _repeated_class_names() -> Iterator[str]:
    places = defaultdict(list)
    for path, text in _sources("services", "tasks"):
        for name in _CLASS.findall(text):
            places[name].append(path)
    return (f"class_name {name}" for name, paths in places.items() if len(paths) > 1)


def _rows_by_position() -> Iterator[str]:
    for path, text in _sources("services", "tasks"):
        if _BY_POSITION.search(text):
            yield f"row_by_position {path}"


if __name__ == "__main__":
    needed = find_exceptions()
    FILE.write_text("".join(f"{line}\n" for line in read_exceptions() if line in needed))
