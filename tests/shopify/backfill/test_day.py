"""After one backfill, a shop that lost a third of its webhooks equals one that lost none."""

import random
from typing import Any

import httpx
import pytest

from services.closing.gap_backfill import BackfillResult, backfill_providers
from services.core.errors import RetryLater
from services.providers.shopify_admin import ShopifyAdmin
from services.shopify.backfill import run
from services.shopify.backfill.run import backfill_shopify
from services.shopify.shop_access import open_admin
from tests.shopify.backfill.fake_shop import (
    DOMAIN,
    STRIPE_KEY,
    Shops,
    contents,
    control,
    count_backfill,
    receive,
    work_off,
)
from tests.shopify.backfill.sample_day import EVENING, Day, drop_a_third, make_day


def live(shops: Shops, day: Day, seed: int) -> None:
    """Deliver the whole day to one shop and two thirds of it to the other; the providers have all."""
    receive(shops.engine, shops.whole, day.webhooks)
    receive(shops.engine, shops.holed, drop_a_third(day, seed))
    control(shops.url, shop=DOMAIN, webhooks=day.shopify_webhooks())
    control(shops.url, stripe_key=STRIPE_KEY, events=day.stripe_events())


def backfill(shops: Shops, **more: Any) -> list[BackfillResult]:
    """Run the backfill and process the recorded events."""
    parts = backfill_providers(shops.holed, EVENING, "backfill", **more)
    assert [part.fault for part in parts] == [None, None]
    work_off(shops.engine)
    return parts


def entered(parts: list[BackfillResult]) -> dict[str, int]:
    return {part.provider: sum(part.topics.values()) for part in parts}


def assert_whole(shops: Shops) -> None:
    held, wanted = contents(shops.engine, shops.holed), contents(shops.engine, shops.whole)
    for table, rows in wanted.items():
        assert set(rows) - set(held[table]) == set(), table
        assert held[table] == rows, table
    assert sum(len(rows) for rows in wanted.values()) > 100


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_one_backfill_restores_a_lost_third(shops: Shops, seed: int) -> None:
    live(shops, make_day(seed), seed)
    assert contents(shops.engine, shops.holed) != contents(shops.engine, shops.whole)

    first = backfill(shops)

    assert sum(entered(first).values()) == count_backfill(shops.engine, shops.holed)
    assert all(entered(first).values())
    assert_whole(shops)
    assert entered(backfill(shops)) == {"shopify": 0, "stripe": 0}
    assert_whole(shops)


def test_webhooks_that_come_late_after_their_pull_change_nothing(shops: Shops) -> None:
    day = make_day(5)
    live(shops, day, 5)
    backfill(shops)

    late = [one for one in day.webhooks if one.topic != "orders/edited"]
    random.Random(5).shuffle(late)
    receive(shops.engine, shops.holed, late, name="late")

    assert_whole(shops)
    assert entered(backfill(shops)) == {"shopify": 0, "stripe": 0}


def test_dry_run_counts_what_would_be_recorded_and_changes_nothing(shops: Shops) -> None:
    live(shops, make_day(6), 6)
    before = contents(shops.engine, shops.holed)

    (counted, _) = backfill(shops, is_dry=True)

    assert count_backfill(shops.engine, shops.holed) == 0
    assert contents(shops.engine, shops.holed) == before
    assert counted.topics
    assert counted.topics == backfill(shops)[0].topics


def test_backfill_waits_for_a_shop_that_throttles(shops: Shops) -> None:
    live(shops, make_day(8), 8)
    slow = {"maximum": 1000, "available": -20_000, "restore_per_second": 10_000}
    control(shops.url, shop=DOMAIN, bucket=slow)

    backfill(shops)

    counts = httpx.get(f"{shops.url}/_control").json()["shops"][DOMAIN]["counts"]
    assert counts["throttled"] > 0
    assert "too_expensive" not in counts
    assert_whole(shops)


class CutConnection:
    """A connection to the shop that fails after ``calls`` calls."""

    def __init__(self, admin: ShopifyAdmin, calls: int) -> None:
        self._admin, self._calls, self.throttle = admin, calls, None

    def execute(self, document: str, variables: Any, *, changes: bool) -> dict[str, Any]:
        if self._calls == 0:
            raise RetryLater("shopify.no_answer", "cut")
        self._calls -= 1
        return self._admin.execute(document, variables, changes=changes)


def backfill_within(shops: Shops, calls: int) -> bool:
    """Backfill over a connection that fails after ``calls`` calls; return whether it finished."""
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(run, "open_admin", lambda shop: CutConnection(open_admin(shop), calls))
        try:
            backfill_shopify(shops.holed, EVENING, "backfill")
        except RetryLater:
            return False
        finally:
            work_off(shops.engine)
    return True


def test_run_interrupted_anywhere_continues_to_the_same_end(shops: Shops) -> None:
    day = make_day(7, orders=70)  # more than a page of the list
    live(shops, day, 7)
    cuts = 0
    while not backfill_within(shops, calls=3 + cuts * 7):
        cuts += 1
    backfill(shops)

    assert cuts > 5
    assert_whole(shops)
    with shops.engine.connect() as connection:
        doubles = connection.exec_driver_sql(
            "select count(*) from inbound_events where origin = 'backfill' and duplicate_count > 0"
        ).scalar()
    assert doubles == 0
