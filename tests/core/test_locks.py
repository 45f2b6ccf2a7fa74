"""Every function takes its locks in one global order."""

import random
import re
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine

from services.audit.append import AuditEntry, Mutation, append_all
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.locks import LockKind, lock_objects, lock_stock_buckets
from tests.lock_order import watch_locks

ROOT = Path(__file__).parents[2]

# Each locks one row or one number, or several in the order of their keys: no set of objects.
SINGLE = {
    "services/accounts/people.py",
    "services/alerts/incidents.py",
    "services/bulk/store.py",
    "services/alerts/thresholds.py",
    "services/closing/letters.py",
    "services/closing/tax_profile.py",
    "services/conversations/parts.py",
    "services/costs/store.py",
    "services/jobs/scheduler.py",
    "services/jobs/runs.py",
    "services/jobs/store.py",
    "services/ledger/backoff.py",
    "services/ledger/claim.py",
    "services/ledger/rate_limits.py",
    "services/ledger/pause.py",
    "services/mail/outbox_admin.py",
    "services/outreach/audience.py",
    "services/outreach/consents.py",
    "services/outreach/people.py",
    "services/privacy/shop_removal.py",
    "services/retention/events.py",
    "services/schema/migrate.py",
    "services/shops/secrets.py",
    "services/shops/shops.py",
    "services/shops/staff.py",
}
MARKED = {
    "services/audit/append.py",
    "services/core/locks.py",
    "services/shopify/stock/levels.py",
    "services/shopify/stock/low_stock.py",
}


def test_every_lock_that_waits_is_marked_with_its_place_in_the_order_or_is_the_only_one() -> None:
    waits = re.compile(
        r"pg_advisory_(?:xact_)?lock(?:_shared)?\("
        r"|for update(?: of \w+)?(?! of| skip| in )|with_for_update\(\)",
        re.IGNORECASE,
    )
    found = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "services").rglob("*.py")
        if waits.search(re.sub(r"\s+", " ", path.read_text()))
    }
    assert found == SINGLE | MARKED


def acquired(tx: Connection, statement: str, values: object) -> list[int]:
    """Return the places of a lock statement, in the order in which PostgreSQL locks them."""
    places = re.sub(r"select (?:case.*? end|pg_\w+\(.*?\)) from \(", "select * from (", statement, flags=re.S)
    assert places != statement
    return [int(row[0]) for row in tx.exec_driver_sql(places, values)]  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("lock", [lock_objects, lock_stock_buckets])
def test_any_two_sets_lock_what_they_share_in_one_order(engine: Engine, lock: object, seed: int) -> None:
    from sqlalchemy import event

    rng = random.Random(seed)
    objects = [(shop_id, f"key {n}") for shop_id in range(1, 9) for n in range(40)]
    orders: list[list[int]] = []
    seen: list[tuple[str, object]] = []
    listen = lambda *given: seen.append((given[2], given[3]))  # noqa: E731
    for _ in range(2):
        with transaction(engine) as tx:
            event.listen(engine, "before_cursor_execute", listen)
            lock(tx, rng.sample(objects, 150))  # type: ignore[operator]
            event.remove(engine, "before_cursor_execute", listen)
            orders.append(acquired(tx, *seen.pop()))

    one, other = orders
    shared = set(one) & set(other)
    assert len(shared) > 30
    assert [place for place in one if place in shared] == [place for place in other if place in shared]


def test_lock_watch_finds_locks_out_of_order(engine: Engine) -> None:
    with watch_locks(engine) as watch, transaction(engine) as tx:
        lock_objects(tx, [(1, "a"), (2, "b, c")])
        lock_objects(tx, [(2, "b, c")])
        lock_stock_buckets(tx, [(1, "MUG")])
    assert (watch.order, watch.faults) == ([["objects", "stock"]], [])

    quiet = engine.execution_options(unwatched=True)
    with watch_locks(quiet) as watch, transaction(quiet) as tx:
        lock_objects(tx, [(1, "a")])
    assert (watch.order, watch.faults) == ([[]], [])


@pytest.mark.parametrize(
    "second", [LockKind.PRODUCTS, LockKind.OBJECTS], ids=["a smaller kind", "more of the same kind"]
)
def test_lock_watch_names_locks_out_of_order(
    environment: dict[str, str], owner_engine: Engine, second: LockKind
) -> None:
    with watch_locks(owner_engine) as watch, transaction(owner_engine) as tx:
        lock_objects(tx, [(1, "a")])
        lock_objects(tx, [(1, "b")], second)
    assert len(watch.faults) == 1
    assert watch.faults[0].startswith(f"{second.name.lower()} after ['objects']")


def test_chains_are_locked_last_and_by_shop(engine: Engine) -> None:
    with watch_locks(engine) as watch, transaction(engine) as tx:
        lock_objects(tx, [(2, "a")])
        mutation = Mutation("orders", "1", "a change")
        append_all(tx, [AuditEntry(shop, "w", "test", "", [mutation]) for shop in (3, 1, None, 2)], utc_now())
    assert (watch.order, watch.faults) == ([["objects", "chains"]], [])
