"""Records the order of the locks of each transaction: see ``services.core.locks.LockKind``."""

import csv
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, event

MARK = re.compile(r"/\* lock (\d+) (\w+) \*/")


@dataclass
class Taken:
    """Locks of one transaction: the locked names (with their mode) of each kind."""

    last: int = 0
    held: dict[int, set[tuple[Any, ...]]] = field(default_factory=dict)


@dataclass
class Watch:
    """``order``: the lock kinds of each transaction; ``faults``: the locks out of order."""

    order: list[list[str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@contextmanager
def watch_locks(engine: Engine) -> Iterator[Watch]:
    """Record every statement of ``engine`` that is marked as a lock, by transaction."""
    watch = Watch()
    open_: dict[Connection, tuple[Taken, list[str]]] = {}

    def began(connection: Connection) -> None:
        open_[connection] = (Taken(), [])
        watch.order.append(open_[connection][1])

    def seen(connection: Connection, cursor: Any, statement: str, values: Any, *_: Any) -> None:
        mark = MARK.match(statement)
        if mark is None or connection not in open_ or connection.get_execution_options().get("unwatched"):
            return
        taken, order = open_[connection]
        kind, wanted = int(mark[1]), _names(values)
        if wanted <= taken.held.get(kind, set()):
            return
        if kind <= taken.last:
            watch.faults.append(f"{mark[2]} after {order}: {sorted(wanted)[:5]}")
        order.append(mark[2])
        taken.last = max(kind, taken.last)
        taken.held.setdefault(kind, set()).update(wanted)

    def ended(connection: Connection) -> None:
        open_.pop(connection, None)

    listeners = {"begin": began, "before_cursor_execute": seen, "commit": ended, "rollback": ended}
    for name, listener in listeners.items():
        event.listen(engine, name, listener)
    try:
        yield watch
    finally:
        for name, listener in listeners.items():
            event.remove(engine, name, listener)


UNWATCHED = {"unwatched": True}
"""Options of a connection whose one transaction replaces several of the product."""

COLUMNS = (("shop_id", "key"), ("shop_id", "sku"), ("level_shop", "item", "location"), ("space", "shop_id"))


def _names(values: Mapping[str, Any]) -> set[tuple[Any, ...]]:
    """Return the locked names, each with its mode: shared and exclusive locks differ."""
    mode = values.get("is_shared", False)
    names: set[tuple[Any, ...]] = set()
    for columns in COLUMNS:
        if all(name in values for name in columns):
            parts = [_split(values[name]) for name in columns if isinstance(values[name], str)]
            names |= {(mode, columns, *row) for row in zip(*parts, strict=True)}
    return names


def _split(literal: str) -> list[str]:
    return next(csv.reader([literal[1:-1]], escapechar="\\", doublequote=False), [])
