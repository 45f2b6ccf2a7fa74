"""The first backfill: the whole catalogue, by pages or in bulk, and the orders that the scopes show."""

import os
import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Deferred, RetryLater
from services.fleet.doctor import examine
from services.providers.shopify_documents import BULK_QUERIES, RUN_BULK_QUERY
from services.sandbox.payloads.catalogue import make_items, make_product, make_shopify_body
from services.shopify.backfill import catalogue
from services.shopify.backfill.pager import Pager
from services.shopify.backfill.run import FIRST_RUN_WINDOW, backfill_shopify
from services.shopify.backfill.state import BackfillState, find_state
from services.shopify.shop_access import open_admin
from tests.shopify.backfill.fake_shop import DOMAIN, Shops, contents, control, put_order, work_off
from tests.shopify.backfill.sample_day import CURRENCY

NOW = utc_now().replace(microsecond=0)
OLD = NOW - timedelta(days=900)
LOCATIONS = (11, 12)


@pytest.fixture
def is_bulk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the catalogue is read in bulk; its size decides that."""
    is_bulk = bool(request.param)
    monkeypatch.setattr(catalogue, "BULK_FROM", 1 if is_bulk else 10_000)
    monkeypatch.setattr(catalogue, "PAGE", 7)
    monkeypatch.setattr(catalogue, "POLL_EVERY", timedelta(0))
    return is_bulk


both_ways = pytest.mark.parametrize("is_bulk", [False, True], indirect=True, ids=["pages", "bulk"])
in_bulk = pytest.mark.parametrize("is_bulk", [True], indirect=True, ids=["bulk"])


def stock_catalogue(shops: Shops, count: int = 20, changed_at: datetime = OLD) -> None:
    """Give the shop ``count`` products of two variants, unchanged since ``changed_at``, and their levels."""
    items = make_items(random.Random(5), 2 * count)
    control(
        shops.url,
        shop=DOMAIN,
        locations=[
            make_shopify_body("locations/update", location_id=one, at=changed_at) for one in LOCATIONS
        ],
        products=[
            make_product(items[n : n + 2], updated_at=changed_at, currency=CURRENCY)
            for n in range(0, len(items), 2)
        ],
        inventory_items=[
            make_shopify_body("inventory_items/update", item=item, at=changed_at, cost_cents=500)
            for item in items
        ],
        inventory_levels=[
            make_shopify_body(
                "inventory_levels/update",
                inventory_item_id=item.inventory_item_id,
                location_id=location,
                available=3,
                at=changed_at,
            )
            for item in items
            for location in LOCATIONS
        ],
    )


def backfill(shops: Shops, now: datetime = NOW, **more: Any) -> Mapping[str, int]:
    stats = backfill_shopify(shops.holed, now, "backfill", **more)
    work_off(shops.engine)
    return stats.recorded


def counts(shops: Shops) -> dict[str, int]:
    held = contents(shops.engine, shops.holed)
    tables = ("products", "variants", "inventory_items", "inventory_levels", "locations")
    return {table: len(held[table]) for table in tables}


def state_of(shops: Shops) -> BackfillState:
    with transaction(shops.engine) as tx:
        return find_state(tx, shops.holed)


ALL = {"products": 20, "variants": 40, "inventory_items": 40, "inventory_levels": 80, "locations": 2}


@both_ways
def test_catalogue_that_no_webhook_named_is_known_after_the_first_backfill(
    shops: Shops, is_bulk: bool
) -> None:
    stock_catalogue(shops)

    backfill(shops)

    assert counts(shops) == ALL
    rows = contents(shops.engine, shops.holed)
    assert all('"cost_cents":500' in row for row in rows["inventory_items"])
    assert all('"available":3' in row for row in rows["inventory_levels"])
    assert state_of(shops).catalogue_read_at == NOW
    assert backfill(shops, NOW + timedelta(hours=1)) == {}


@both_ways
def test_later_backfill_reads_only_changes(shops: Shops, is_bulk: bool) -> None:
    stock_catalogue(shops)
    backfill(shops)
    stock_catalogue(shops, 1, changed_at=NOW + timedelta(minutes=30))

    stats = backfill_shopify(shops.holed, NOW + timedelta(hours=1), "backfill")

    assert set(stats.recorded) == {
        "products/update", "inventory_items/update", "inventory_levels/update", "locations/update",
    }  # fmt: skip
    assert stats.by_list["products"] == 1


class Cut:
    """A connection that fails after ``calls`` calls."""

    def __init__(self, admin: Any, calls: int) -> None:
        self._admin, self._calls, self.throttle = admin, calls, None

    def execute(self, document: str, variables: Any, *, changes: bool) -> Any:
        self._calls -= 1
        if self._calls < 0:
            raise RetryLater("shopify.no_answer", "cut")
        return self._admin.execute(document, variables, changes=changes)


@both_ways
def test_first_backfill_that_is_cut_anywhere_goes_on_and_records_nothing_twice(
    shops: Shops, is_bulk: bool
) -> None:
    stock_catalogue(shops)
    cuts = 0
    while True:
        try:
            pager = Pager(Cut(open_admin(shops.holed), 2 + cuts))  # type: ignore[arg-type]
            backfill_shopify(shops.holed, NOW, "backfill", pager=pager)
            break
        except RetryLater:
            cuts += 1
    work_off(shops.engine)

    assert cuts > 5
    assert counts(shops) == ALL
    with transaction(shops.engine) as tx:
        doubled = tx.exec_driver_sql("select count(*) from inbound_events where duplicate_count > 0").scalar()
        streams = tx.exec_driver_sql("select stream from sync_cursors").scalars().all()
    assert doubled == 0
    assert not [stream for stream in streams if stream.startswith("catalogue:")]
    started = httpx.get(f"{shops.url}/_control").json()["shops"][DOMAIN]["bulk_operations"]
    assert started == (2 if is_bulk else 0)


@in_bulk
def test_job_does_not_block_a_worker_while_shopify_runs_the_operation(
    shops: Shops, is_bulk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "POLL_EVERY", timedelta(seconds=20))
    stock_catalogue(shops)

    with pytest.raises(Deferred) as raised:
        backfill(shops)

    assert raised.value.wait == timedelta(seconds=20)
    assert "products" in state_of(shops).bulk


@in_bulk
def test_operation_of_another_process_is_awaited(shops: Shops, is_bulk: bool) -> None:
    stock_catalogue(shops)
    query = BULK_QUERIES["products"]
    open_admin(shops.holed).execute(RUN_BULK_QUERY, {"query": query}, changes=True)

    with pytest.raises(Deferred, match="already in progress") as raised:
        backfill(shops)

    assert raised.value.code == "shopify.bulk_in_progress"


@in_bulk
def test_failed_bulk_operation_is_started_again(shops: Shops, is_bulk: bool) -> None:
    stock_catalogue(shops)
    control(shops.url, shop=DOMAIN, fail_bulk_next=1)
    with pytest.raises(RetryLater, match="FAILED"):
        backfill(shops)

    backfill(shops)

    assert counts(shops) == ALL


@in_bulk
def test_operation_whose_file_cannot_be_read_is_started_again(
    shops: Shops, is_bulk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock_catalogue(shops)
    with monkeypatch.context() as wrong, pytest.raises(RetryLater, match="does not follow"):
        wrong.setattr(catalogue, "stream_objects", lambda *_: [{"id": "v", "__parentId": "p"}])
        backfill(shops)

    backfill(shops)

    assert counts(shops) == ALL
    assert httpx.get(f"{shops.url}/_control").json()["shops"][DOMAIN]["bulk_operations"] == 3


@in_bulk
def test_shop_without_a_product_has_no_file(
    shops: Shops, is_bulk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "BULK_FROM", 0)

    backfill(shops)

    assert counts(shops) == dict.fromkeys(ALL, 0)
    assert state_of(shops).catalogue_read_at == NOW


def test_open_orders_of_any_age_are_read_with_the_scope_and_closed_old_ones_are_not(shops: Shops) -> None:
    put_order(shops, OLD, 1)
    closed = put_order(shops, OLD, 2) | {"closed_at": OLD.isoformat()}
    control(shops.url, shop=DOMAIN, orders=[closed])

    backfill(shops)

    assert names(shops) == ["#1"]
    limit = state_of(shops).describe_limit("holed", ZoneInfo("UTC"))
    assert limit.startswith(f"of the orders before {NOW - FIRST_RUN_WINDOW:%Y-%m-%d} only the open ones")
    assert backfill(shops, since=OLD - timedelta(days=1)) != {}
    assert names(shops) == ["#1", "#2"]
    assert state_of(shops).orders_since == OLD - timedelta(days=1)


def test_scope_that_is_granted_later_shows_the_old_open_orders(shops: Shops) -> None:
    put_order(shops, OLD, 1)
    control(shops.url, shop=DOMAIN, scopes=["read_orders"])
    earlier = NOW - timedelta(hours=1)
    backfill(shops, earlier)
    assert names(shops) == []
    limit = state_of(shops).describe_limit("holed", ZoneInfo("UTC"))
    assert (
        limit == f"orders before {earlier - FIRST_RUN_WINDOW:%Y-%m-%d} cannot be read: grant read_all_orders"
    )

    control(shops.url, shop=DOMAIN, scopes=["read_orders", "read_all_orders"])
    backfill(shops)

    assert names(shops) == ["#1"]


def names(shops: Shops) -> list[str]:
    with transaction(shops.engine) as tx:
        return list(tx.exec_driver_sql("select name from orders order by name").scalars())


@in_bulk
def test_finished_operations_are_used_again_after_a_cut_while_levels_are_recorded(
    shops: Shops, is_bulk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock_catalogue(shops)

    def cut(*_: object, **__: object) -> None:
        raise RetryLater("shopify.no_answer", "cut")

    with monkeypatch.context() as broken, pytest.raises(RetryLater):
        broken.setattr(catalogue, "groupby", cut)
        backfill(shops)
    backfill(shops)

    assert counts(shops) == ALL
    assert httpx.get(f"{shops.url}/_control").json()["shops"][DOMAIN]["bulk_operations"] == 2


def test_doctor_names_the_orders_that_cannot_be_read(shops: Shops, environment: dict[str, str]) -> None:
    control(shops.url, shop=DOMAIN, scopes=["read_orders"])
    backfill(shops)

    (found,) = (
        finding
        for finding in examine({**os.environ, **environment}, Path(environment["FLEET_HOME"]))
        if finding.check == "orders"
    )

    assert found.ok
    assert found.seen.startswith("holed: orders before ")
    assert found.seen.endswith("cannot be read: grant read_all_orders")
