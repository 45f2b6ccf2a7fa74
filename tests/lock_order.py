"""Watches which locks each transaction takes, in which order: see ``services.core.locks.Lock``."""

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
    """What one transaction holds: of each kind, the names of what it locked, with how."""

    last: int = 0
    held: dict[int, set[tuple[Any, ...]]] = field(default_factory=dict)


@dataclass
class Watch:
    """``order`` is the kinds that each transaction took, ``faults`` what was out of order."""

    order: list[list[str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@contextmanager
def watch_locks(engine: Engine) -> Iterator[Watch]:
    """Every statement of ``engine`` that is marked as a lock is seen, by transaction."""
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
        kind, asked = int(mark[1]), _names(values)
        if asked <= taken.held.get(kind, set()):
            return
        if kind <= taken.last:
            watch.faults.append(f"{mark[2]} after {order}: {sorted(asked)[:5]}")
        order.append(mark[2])
        taken.last = max(kind, taken.last)
        taken.held.setdefault(kind, set()).update(asked)

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
"""Options of a connection whose transaction stands for several of the product's."""

COLUMNS = (("shop_id", "key"), ("shop_id", "sku"), ("level_shop", "item", "location"), ("space", "shop_id"))


def _names(values: Mapping[str, Any]) -> set[tuple[Any, ...]]:
    """Return what is locked, each with its mode: an exclusive lock is another than a shared one."""
    mode = values.get("is_shared", False)
    names: set[tuple[Any, ...]] = set()
    for columns in COLUMNS:
        if all(name in values for name in columns):
            parts = [_split(values[name]) for name in columns if isinstance(values[name], str)]
            names |= {(mode, columns, *row) for row in zip(*parts, strict=True)}
    return names


def _split(literal: str) -> list[str]:
    return next(csv.reader([literal[1:-1]], escapechar="\\", doublequote=False), [])
