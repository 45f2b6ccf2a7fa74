"""The duration of each statement of this process, by a name that is the same in every process."""

import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import blake2s
from time import perf_counter
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

MAX_SAMPLES = 50_000
"""Most durations in memory; older ones are dropped."""

COMMIT = "commit"
"""The text and the name of each commit."""

_IDLE = TransactionStatus.IDLE
_samples: deque[tuple[Any, float]] = deque(maxlen=MAX_SAMPLES)

_IGNORED = re.compile(r"\s*(?:savepoint|release|rollback|set|show|select 1\s*$|;?\s*$)", re.IGNORECASE)
"""Not statements of the application: pings of the pool, and control of sessions and transactions."""
_WRITE = re.compile(
    r"\b(insert) into (\w+)|^(copy) (\w+)|\b(delete) from (\w+)|(?<!for )\b(update) (?!set\b)(\w+)"
)
_READ = re.compile(r"\b(from) (?!unnest|generate_series|jsonb?_)(\w+)")
_CALL = re.compile(r"(select)\b.*?\b(\w+)\(")
_COMMENT = re.compile(r"/\*.*?\*/")
_PARAMETER = re.compile(r"%\((\w+)\)s|%%")


class TimedCursor(psycopg.Cursor[Any]):
    """A cursor that records the duration of each statement, one that fails included.

    A method call and two readings of a clock; names are made later, by ``take_samples``.
    """

    def execute(self, query: Any, *args: Any, **options: Any) -> "TimedCursor":
        """Execute ``query``, as ``psycopg.Cursor`` does."""
        began = perf_counter()
        try:
            super().execute(query, *args, **options)
        finally:
            _samples.append((query, perf_counter() - began))
        return self

    @contextmanager
    def copy(self, statement: Any, *args: Any, **options: Any) -> Iterator[psycopg.Copy]:
        """Yield a COPY, as ``psycopg.Cursor`` does. Its duration has the time in which its lines are made."""
        began = perf_counter()
        try:
            with super().copy(statement, *args, **options) as copy:
                yield copy
        finally:
            _samples.append((statement, perf_counter() - began))


class TimedConnection(psycopg.Connection[Any]):
    """A connection that records the duration of each commit, one that fails included."""

    def commit(self) -> None:
        """Commit the transaction, as ``psycopg.Connection`` does; without one nothing is recorded."""
        if self.pgconn.transaction_status == _IDLE:
            return super().commit()
        began = perf_counter()
        try:
            super().commit()
        finally:
            _samples.append((COMMIT, perf_counter() - began))


def take_samples() -> Iterator[tuple[str, float]]:
    """Yield text and milliseconds of each statement since the last call, without pings."""
    while _samples:
        query, seconds = _samples.popleft()
        if isinstance(query, str) and not _IGNORED.match(query):
            yield query, seconds * 1000


@lru_cache(maxsize=2000)
def name_statement(text: str) -> str:
    """Return a name: what the statement does, its main table or function, a hash: ``insert jobs 1a2b3c``."""
    if text == COMMIT:
        return text
    lower = " ".join(_COMMENT.sub(" ", text.lower()).split())
    found = _WRITE.search(lower) or _READ.search(lower) or _CALL.search(lower)
    words = [word for word in found.groups() if word] if found else [lower.partition(" ")[0]]
    words[0] = {"from": "select"}.get(words[0], words[0])
    return " ".join([*words, blake2s(text.encode(), digest_size=3).hexdigest()])


def number_parameters(text: str) -> str:
    """Return the statement with ``$1`` for its first parameter, as ``prepare`` and ``explain`` take it."""
    names: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        return f"${names.setdefault(found[1], len(names) + 1)}" if found[1] else "%"

    return _PARAMETER.sub(number, text).strip()
