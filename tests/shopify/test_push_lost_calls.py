"""Calls of many levels whose answer is lost."""

import random

import pytest
from sqlalchemy import Engine

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import OutcomeUnknown, Refused
from services.ledger.runner_external import ExternalRunner
from services.providers.shopify_admin import ShopLevelKey
from services.shopify.stock.push import InventoryPushHandler
from services.shops.secrets import record_secret
from tests.shopify.push_batches import TOPIC, plan, push, sizes, work
from tests.shopify.push_shop import FakeStockApi
from tests.shopify.sample_payloads import add_shop, rows


@pytest.fixture
def api() -> FakeStockApi:
    """A shop with ten pieces of every item."""
    return FakeStockApi(others={ShopLevelKey(n, 1): 10 for n in range(1, 700)}, seen_at=utc_now())


@pytest.fixture
def shop(engine: Engine) -> Engine:
    shop_id = add_shop(engine)
    with transaction(engine) as tx:
        record_secret(tx, shop_id, "shopify-token", "shpat_0123456789abcdef", utc_now())
    return engine


def test_call_with_a_lost_answer_is_retried_as_a_whole_under_one_key(shop: Engine, api: FakeStockApi) -> None:
    plan(shop, 120)
    api.lose = True
    ExternalRunner(shop, "tests", random.Random(1)).run_batch(TOPIC, InventoryPushHandler(lambda _: api))
    assert work(shop) == {("error", None, "shopify.no_answer", 1): 120}
    assert len(rows(shop, "select distinct next_retry_at from work_queue")) == 1

    push(shop, api)

    assert api.requests[0] == api.requests[1]
    assert work(shop) == {("done", "pushed", None, 1): 120}


def test_part_of_a_lost_call_repeats_the_whole_call(shop: Engine, api: FakeStockApi) -> None:
    """Claims are shared among shops: the items of a call may be claimed in parts."""
    plan(shop, 9)
    api.lose = True
    push(shop, api)
    with transaction(shop) as tx:
        tx.exec_driver_sql("update work_queue set locked_at = now(), locked_by = 'w2' where id <= 4")

    push(shop, api)
    with transaction(shop) as tx:
        tx.exec_driver_sql("update work_queue set locked_at = null, locked_by = null where id <= 4")
    push(shop, api)

    assert api.requests[0] == api.requests[1] == api.requests[2]
    assert work(shop) == {("done", "pushed", None, 1): 9}


@pytest.mark.parametrize("happened", [True, False])
def test_lost_call_with_a_discarded_item_is_read_and_never_repeated(
    shop: Engine, api: FakeStockApi, happened: bool
) -> None:
    plan(shop, 9)
    api.lose, api.fail = happened, None if happened else OutcomeUnknown("shopify.no_answer")
    push(shop, api)
    api.fail, api.seen_at = None, None
    with transaction(shop) as tx:
        tx.exec_driver_sql("update work_queue set status = 'discarded' where id = 4")

    while push(shop, api).claimed:
        pass

    first = api.requests[0]["key"]
    assert [one["key"] for one in api.requests].count(first) == 1
    held = {n: api.others[ShopLevelKey(n, 1)] for n in range(1, 10)}
    assert held == {n: 3 if happened or n != 4 else 10 for n in range(1, 10)}
    assert set(work(shop)) <= {
        ("done", "in_sync", None, 1), ("done", "superseded", None, 1), ("done", "pushed", None, 0),
        ("discarded", None, "shopify.no_answer", 1),
    }  # fmt: skip


@pytest.mark.parametrize("is_bad", [True, False], ids=["an item is bad", "a level moved"])
def test_levels_are_read_after_a_lost_answer_to_a_partial_refusal(
    shop: Engine, api: FakeStockApi, is_bad: bool
) -> None:
    """The first call is refused for one item, the second goes through and its answer is lost."""
    plan(shop, 9)
    if is_bad:
        api.refuse = {4: Refused("shopify.invalid_inventory_item", "no such item")}
    else:
        api.others[ShopLevelKey(4, 1)] = 42

    def lose_the_second() -> None:
        api.lose = len(api.requests) == 2

    api.during = lose_the_second
    push(shop, api)
    assert work(shop)[("error", None, "shopify.no_answer", 1)] == 8

    push(shop, api)

    assert work(shop)[("done", "in_sync", None, 1)] == 8
    assert sizes(api) == ([9, 8] if is_bad else [9, 8, 9, 1])
    assert [api.others[ShopLevelKey(n, 1)] for n in (3, 4, 5)] == [3, 10 if is_bad else 3, 3]
