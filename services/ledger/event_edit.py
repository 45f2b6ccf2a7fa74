"""Edit of an event: records a changed body as a new event that points at the original, with new work."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Any, NamedTuple, Unpack

from sqlalchemy import Connection

from services.audit.append import Author
from services.core.counts import format_count
from services.core.errors import InputInvalid
from services.core.locks import lock_bodies
from services.ledger.queries import get_event
from services.ledger.replay import BodyEdit, ReplayResult, find_originals, is_readable, record_replays
from services.providers.provider import REFUSED
from services.providers.registry import find_provider

MAX_BYTES = 400_000
"""The largest body that a form can send."""
_TIME_NAMES = frozenset(
    ("updated_at", "updatedAt", "happened_at", "processed_at", "created_at", "createdAt", "created")
)
"""Values that decide which of two states of an object is the newer one."""
_TIME_IN_TEXT = re.compile(
    rf'"({"|".join(sorted(_TIME_NAMES))})"\s*:\s*"?(null|[0-9][0-9A-Za-z:.+-]*+)(?=.)', re.DOTALL
)
"""A time in text that is not JSON, after its name; one that is cut off at the end is unknown."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_PLAIN_PATH = re.compile(r"\$(?:\.[A-Za-z_][A-Za-z0-9_-]{0,63}|\[[0-9]+\])*")
_SHOWN_PATHS = 10
_TEXT_LENGTH = 200


class ValueChange(NamedTuple):
    """A value that an edit changes: its path, and its JSON before and after; empty where it is absent."""

    path: str
    before: str
    after: str


def find_edit_kind(provider: str, topic: str) -> str:
    """Return the kind of an event's topic, of ``REFUSED``, ``MONEY`` and ``PLAIN``."""
    found = find_provider(provider)
    for kind, patterns in found.edit_kinds if found else ():
        if any(fnmatchcase(topic, pattern) for pattern in patterns.split()):
            return kind
    return REFUSED


def hash_body(body: bytes) -> str:
    """Return what an edit names as the body that it changes."""
    return sha256(body).hexdigest()


def check_edit(original: bytes, edited: str) -> list[ValueChange]:
    """Return what ``edited`` changes; raise ``InputInvalid`` if it cannot be recorded.

    The times that decide which state is the newest stay: an edited event is as old as its original.
    """
    body = edited.encode(errors="surrogatepass")
    if len(body) > MAX_BYTES:
        raise InputInvalid(
            f"the body has {format_count(len(body), 'byte')}: an edit has at most {MAX_BYTES:,}"
        )
    if not is_readable(body):
        raise InputInvalid("the body should be a JSON object")
    try:
        old, new = _parse(original.decode()) if is_readable(original) else None, _parse(edited)
        changes = [*_list_changes(old, new)]
        if old is not None:
            wrong = _compare_times([*_list_times(old)], [*_list_times(new)])
        else:
            wrong = _compare_to_text(original.decode(errors="replace"), [*_list_times(new)])
    except (ArithmeticError, ValueError):
        raise InputInvalid("the event or the edit has a number that is too large or too small") from None
    except RecursionError:
        raise InputInvalid("the body has too many objects within each other") from None
    if not changes:
        raise InputInvalid("the edit changes no value: replay the event instead")
    if wrong:
        raise InputInvalid(f"{wrong} should stay: it decides which state of an object is the newest")
    return changes


def record_edit(
    tx: Connection, event_id: int, edited: str, *, opened: str, token: str, **author: Unpack[Author]
) -> ReplayResult:
    """Record ``edited`` as an edit of the event, once for each ``token``.

    ``opened`` is ``hash_body`` of the body that was edited: a body that was redacted since then is refused,
    because the edit would restore the data. Raises ``InputInvalid``, also for a refused topic and for no
    reason.
    """
    shop_id = get_event(tx, event_id)[0].shop_id
    lock_bodies(tx, {shop_id}, is_shared=True)
    (original,) = found = find_originals(tx, [event_id])
    body = bytes(original.body)
    if find_edit_kind(original.provider, original.topic) == REFUSED:
        raise InputInvalid(f"events of {original.provider} {original.topic} are not edited")
    if hash_body(body) != opened:
        raise InputInvalid("the body was changed since you opened it, by a redaction: open it again")
    if not author.get("reason", "").strip():
        raise InputInvalid("reason is empty: it should say why the event is edited")
    if not re.fullmatch("[0-9a-f]{32}", token):
        raise InputInvalid("token should be that of the form: open the event again")
    changes = check_edit(body, edited)
    edit = BodyEdit(edited.encode(), token, _describe(changes))
    return record_replays(tx, [found], edit=edit, **author)


def _describe(changes: list[ValueChange]) -> str:
    """Return the paths of ``changes``; the audit gets no value, and no name that may be data of a person."""
    paths = [one.path if _PLAIN_PATH.fullmatch(one.path) else "a value" for one in changes[:_SHOWN_PATHS]]
    more = len(changes) - len(paths)
    return ", ".join(paths) + (f" and {more} more" if more else "")


def _parse(text: str) -> Any:
    """Return the JSON with exact numbers."""
    return json.loads(text, parse_float=Decimal)


def _list_changes(old: Any, new: Any, path: str = "$") -> Iterator[ValueChange]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in {**old, **new}:
            place = f"{path}.{name}" if _NAME.fullmatch(name) else f"{path}[{json.dumps(name)}]"
            yield from _compare(old, new, name, place)
    elif isinstance(old, list) and isinstance(new, list):
        before, after = dict(enumerate(old)), dict(enumerate(new))
        for number in range(max(len(old), len(new))):
            yield from _compare(before, after, number, f"{path}[{number}]")
    elif repr(old) != repr(new):
        yield ValueChange(path, _format(old) if path != "$" else "not JSON", _format(new))


def _compare(old: dict[Any, Any], new: dict[Any, Any], key: Any, path: str) -> Iterator[ValueChange]:
    if key in old and key in new:
        yield from _list_changes(old[key], new[key], path)
    else:
        yield ValueChange(path, *(_format(one[key]) if key in one else "" for one in (old, new)))


def _format(value: Any) -> str:
    text = str(value) if isinstance(value, Decimal) else json.dumps(value, default=float, ensure_ascii=False)
    return text if len(text) <= _TEXT_LENGTH else f"{text[:_TEXT_LENGTH]}…"


def _list_times(value: Any, path: str = "$") -> Iterator[tuple[str, Any]]:
    """Yield path (without places in lists) and value, of any type, of each time of ``_TIME_NAMES``."""
    if isinstance(value, dict):
        for name, one in value.items():
            if name in _TIME_NAMES:
                yield f"{path}.{name}", one
            else:
                yield from _list_times(one, f"{path}.{name}")
    elif isinstance(value, list):
        for one in value:
            yield from _list_times(one, path)


def _compare_times(old: list[tuple[str, Any]], new: list[tuple[str, Any]]) -> str:
    """Return the first path whose times differ, in value or in order; "" if all are the same."""
    before, after = _group_times(old), _group_times(new)
    return next((path for path in {**before, **after} if before.get(path) != after.get(path)), "")


def _group_times(times: list[tuple[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path, value in times:
        found.setdefault(path, []).append(repr(value))
    return found


def _compare_to_text(text: str, new: list[tuple[str, Any]]) -> str:
    """Return the first path or name of a time that is not in both, the text that is not JSON and the edit."""
    known, left = set(_TIME_IN_TEXT.findall(text)), set(_TIME_IN_TEXT.findall(text))
    for path, value in new:
        time = path.rpartition(".")[2], value if isinstance(value, str) else json.dumps(value, default=str)
        if time not in known:
            return path
        left.discard(time)
    return min(left)[0] if left else ""
