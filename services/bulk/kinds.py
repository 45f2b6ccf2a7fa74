"""Kinds of bulk actions: which rows each takes, and why it leaves out a row. Pure."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from services.core.errors import InputInvalid, describe_unknown
from services.ledger.replay import COPIES
from services.ledger.requeue import DEFAULT_STATUSES, MAY_DISCARD, MAY_REQUEUE

TOPIC = "bulk_action"
LOCKED_FOR = timedelta(minutes=15)
"""``unlock`` takes rows that are locked for longer than this."""
NO_ROLE = "the person is no operator at the shop"
LOCKED = "locked by a worker"
GONE = "the row does not exist any more"
OWN_WORK = "work of a bulk action, which is stopped on its page"


class RowFacts(NamedTuple):
    """What decides whether a row is taken. Events have the topic of their provider, and no status; work
    has no origin here. A shop of ``jobs`` has its id, the job as topic, and the status of the period's run.
    """

    id: int
    shop_id: int
    topic: str
    status: str = ""
    locked_at: datetime | None = None
    origin: str = ""


@dataclass(frozen=True, slots=True)
class BulkKind:
    """An action on rows of ``list``. It takes ``statuses`` unless the filters name others of ``allowed``.

    Of events it takes those that are no replay or edit, and others of ``allowed`` if ``origin`` names them.
    The rows of ``jobs`` are shops, which no filter chooses.
    """

    name: str
    list: str
    past: str
    statuses: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()

    @property
    def field(self) -> str:
        """The filter that has statuses, or origins of events."""
        return "origin" if self.list == "events" else "status"

    def choose_statuses(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """Return the statuses that are taken if the filter has ``wanted``."""
        return tuple(one for one in wanted if one in self.allowed) or self.statuses


JOBS = "jobs"
NO_RUN = "none"
STARTED = (NO_RUN, "failed", "skipped")
"""A run of the period starts where there is none, or one of these ended."""
_OPEN = ("pending", "error")
_KINDS = (
    BulkKind("requeue", "work", "requeued", DEFAULT_STATUSES, MAY_REQUEUE),
    BulkKind("discard", "work", "discarded", DEFAULT_STATUSES, MAY_DISCARD),
    BulkKind("unlock", "work", "unlocked", _OPEN, _OPEN),
    BulkKind("replay", "events", "replayed", (), COPIES),
    BulkKind("run", JOBS, "started", STARTED, (*STARTED, "done")),
)
KINDS: Mapping[str, BulkKind] = MappingProxyType({kind.name: kind for kind in _KINDS})
BY_FILTERS: Mapping[str, BulkKind] = MappingProxyType(
    {kind.name: kind for kind in _KINDS if kind.list != JOBS}
)
"""Those whose rows are chosen by the filters of a list."""


def get_kind(name: str, list_name: str) -> BulkKind:
    """Return the kind ``name`` of a list; raise ``InputInvalid`` for another name or list."""
    kinds = {one.name: one for one in BY_FILTERS.values() if one.list == list_name}
    if not kinds:
        raise InputInvalid(f"list={describe_unknown(list_name, {one.list for one in BY_FILTERS.values()})}")
    if name not in kinds:
        raise InputInvalid(f"action={describe_unknown(name, kinds)}")
    return kinds[name]


def find_cause_to_skip(
    kind: BulkKind, row: RowFacts, statuses: Sequence[str], shops: Set[int] | None, now: datetime
) -> str:
    """Return why the row is left out, or "". ``shops``: where the person is operator; None: everywhere."""
    if shops is not None and row.shop_id not in shops:
        return NO_ROLE
    if kind.list == "work":
        return _find_cause_of_work(kind, row, statuses, now)
    if kind.list == JOBS:
        return "" if row.status in statuses else f"its run is {row.status}"
    return f"its origin is {row.origin}" if row.origin in COPIES and row.origin not in statuses else ""


def _find_cause_of_work(kind: BulkKind, row: RowFacts, statuses: Sequence[str], now: datetime) -> str:
    if row.topic == TOPIC:
        return OWN_WORK
    if row.status not in statuses:
        return f"its status is {row.status}"
    if kind.name != "unlock":
        return LOCKED if row.locked_at else ""
    if row.locked_at is None:
        return "not locked"
    is_long = now - row.locked_at > LOCKED_FOR
    return "" if is_long else f"locked for less than {LOCKED_FOR.total_seconds() // 60:.0f} min"


def group_skipped(causes: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    """Return the ids of ``causes`` (cause, id) by cause; those without a cause are left out."""
    found: dict[str, list[int]] = {}
    for cause, row_id in causes:
        if cause:
            found.setdefault(cause, []).append(row_id)
    return found
