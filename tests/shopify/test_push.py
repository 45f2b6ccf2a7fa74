"""Topic ``inventory_push``: one call per figure, one key per call, and retries under the same key."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.core.errors import Deferred, Misconfigured, OutcomeUnknown, Refused, RetryLater, WorkError
from services.ledger.work import WorkItem
from services.providers.shopify_admin import LevelQuantity, ShopLevelKey
from services.providers.shopify_answers import (
    ShopifyThrottled,
)
from services.shopify.orders.handler import ingest_orders
from services.shopify.stock.handler import ingest_inventory_levels
from services.shopify.stock.push_call import KEY_TTL
from tests.shopify.push_shop import BUCKET, FIGURES, TOKEN, FakeStockApi, again, result_code, run, take
from tests.shopify.sample_payloads import (
    ITEM,
    LOCATION,
    NOON,
    NOW,
    ORDER,
    ingest,
    level,
    line,
    order,
    rows,
)


def test_push_sets_the_present_figure_and_remembers_it(shop: Engine, api: FakeStockApi) -> None:
    outcome, new_work = run(shop, api, take(shop))

    assert result_code(outcome) == "pushed"
    assert [one["quantities"] for one in api.requests] == [
        [LevelQuantity(ShopLevelKey(ITEM, LOCATION), 7, 10)]
    ]
    assert [(a.domain, a.token) for a in api.opened] == [("harbour.myshopify.com", TOKEN)]
    assert rows(shop, FIGURES) == [(7, 7)]
    assert new_work == []
    assert rows(
        shop, "select bucket, maximum, available, restore_per_second, call_points from rate_limits"
    ) == [("shopify", 2000, 1990, 100, 10)]


def test_push_of_an_equal_level_makes_no_call(shop: Engine, api: FakeStockApi) -> None:
    item = take(shop)
    ingest(shop, ingest_inventory_levels, level(7, 5))

    assert result_code(run(shop, api, item)[0]) == "in_sync"
    assert api.requests == []


def test_push_of_a_missing_level_makes_no_call(shop: Engine, api: FakeStockApi) -> None:
    item = take(shop)
    with transaction(shop) as tx:
        tx.exec_driver_sql("delete from inventory_levels")

    assert result_code(run(shop, api, item)[0]) == "no_level"


def test_level_that_the_shop_disconnected_is_not_pushed(shop: Engine, api: FakeStockApi) -> None:
    item = take(shop)
    with transaction(shop) as tx:
        tx.exec_driver_sql("update inventory_levels set disconnected_at = now()")

    assert result_code(run(shop, api, item)[0]) == "no_level"
    assert api.requests == []


def test_push_retried_after_a_lost_answer_repeats_its_intent_under_its_key(
    shop: Engine, api: FakeStockApi
) -> None:
    item, api.lose = take(shop), True
    assert result_code(run(shop, api, item)[0]) == "shopify.no_answer"
    stored = rows(shop, "select payload from work_queue where id = :id", id=item.id)[0][0]
    assert (stored["quantity"], stored["change_from_quantity"]) == (7, 10)
    ingest(shop, ingest_orders, order(number=ORDER + 50, lines=[line(ORDER + 51, quantity=2)]))

    outcome, _ = run(shop, api, again(shop, item))

    assert result_code(outcome) == "pushed"
    assert api.requests[0] == api.requests[1]
    assert api.available == 7
    # Later sales belong to the next push, which already waits.
    assert rows(shop, FIGURES) == [(5, 7)]
    assert result_code(run(shop, api, take(shop))[0]) == "pushed"
    assert api.available == 5
    assert rows(shop, FIGURES) == [(5, 5)]


def test_push_with_unknown_outcome_is_repeated_even_if_the_figures_agree(
    shop: Engine, api: FakeStockApi
) -> None:
    item, api.lose = take(shop), True
    assert result_code(run(shop, api, item)[0]) == "shopify.no_answer"
    with transaction(shop) as tx:
        tx.exec_driver_sql("update inventory_levels set available = 10")

    outcome, new_work = run(shop, api, again(shop, item))

    assert result_code(outcome) == "pushed"
    assert rows(shop, FIGURES) == [(10, 7)]
    assert [new.key for new in new_work] == [f"{ITEM}:{LOCATION}"]


def test_push_with_unknown_outcome_older_than_its_key_reads_the_level_first(
    shop: Engine, api: FakeStockApi
) -> None:
    item, api.lose = take(shop), True
    run(shop, api, item)
    long_ago = {"asked_at": (NOW - 2 * KEY_TTL).isoformat()}

    late = again(shop, item)
    outcome, _ = run(shop, api, late._replace(payload=late.payload | long_ago))

    assert result_code(outcome) == "in_sync"
    assert len(api.requests) == 1
    assert rows(shop, FIGURES) == [(7, 7)]


def test_push_that_a_throttled_shop_never_saw_reads_the_figure_of_its_later_try(
    shop: Engine, api: FakeStockApi
) -> None:
    item = take(shop)
    api.fail = ShopifyThrottled("empty", wait=timedelta(seconds=3), throttle=BUCKET)
    assert result_code(run(shop, api, item)[0]) == "shopify.throttled"
    assert again(shop, item).payload == {}
    ingest(shop, ingest_orders, order(number=ORDER + 50, lines=[line(ORDER + 51, quantity=2)]))
    api.fail = None

    run(shop, api, again(shop, item))

    assert api.terms == [(7, 10), (5, 10)]


def test_level_that_changes_during_the_call_has_one_more_push_planned(
    shop: Engine, api: FakeStockApi
) -> None:
    def sell() -> None:
        with transaction(shop) as tx:
            ingest_orders(tx, [order(number=ORDER + 50, lines=[line(ORDER + 51)])], NOW)

    api.during = sell
    _, new_work = run(shop, api, take(shop))

    assert rows(shop, FIGURES) == [(6, 7)]
    assert [(new.key, new.payload, new.not_before) for new in new_work] == [(f"{ITEM}:{LOCATION}", {}, None)]


def test_webhook_received_during_the_call_wins_over_the_answer(shop: Engine, api: FakeStockApi) -> None:
    api.during = lambda: ingest(shop, ingest_inventory_levels, level(4, 50))

    run(shop, api, take(shop))

    assert rows(shop, FIGURES) == [(7, 4)]


def test_push_waits_while_another_of_its_level_has_no_answer(shop: Engine, api: FakeStockApi) -> None:
    unanswered, api.lose = take(shop), True
    assert result_code(run(shop, api, unanswered)[0]) == "shopify.no_answer"
    settle_lost(shop, unanswered)
    ingest(shop, ingest_orders, order(number=ORDER + 50, lines=[line(ORDER + 51, quantity=2)]))
    later = take(shop)
    assert later.id != unanswered.id

    waiting = run(shop, api, later)[0]

    assert isinstance(waiting, Deferred)
    assert result_code(waiting) == "shopify.push_in_doubt"
    assert api.terms == [(7, 10)]
    assert result_code(run(shop, api, again(shop, unanswered))[0]) == "pushed"
    assert result_code(run(shop, api, later)[0]) == "pushed"
    assert api.terms == [(7, 10), (7, 10), (5, 7)]


def test_push_after_one_with_unknown_outcome_reads_the_level_first(shop: Engine, api: FakeStockApi) -> None:
    unanswered, api.lose = take(shop), True
    run(shop, api, unanswered)
    settle_lost(shop, unanswered, "discarded")
    ingest(shop, ingest_orders, order(number=ORDER + 50, lines=[line(ORDER + 51, quantity=2)]))
    ingest(shop, ingest_inventory_levels, level(10, 2))

    assert result_code(run(shop, api, take(shop))[0]) == "superseded"

    assert api.terms == [(7, 10)]
    assert rows(shop, FIGURES) == [(5, 7)]


def test_figure_that_we_wrote_is_not_recorded_as_an_observation(shop: Engine, api: FakeStockApi) -> None:
    item, api.lose = take(shop), True
    run(shop, api, item)
    api.seen_at = NOW
    late = again(shop, item)
    long_ago = {"asked_at": (NOW - 2 * KEY_TTL).isoformat()}

    assert result_code(run(shop, api, late._replace(payload=late.payload | long_ago))[0]) == "in_sync"

    observed = "select observed_available, observed_at, shopify_available from inventory_levels"
    assert rows(shop, observed) == [(10, NOON + timedelta(minutes=1), 7)]


def settle_lost(engine: Engine, item: WorkItem, status: str = "error") -> None:
    """Expire the lease of the item without an answer."""
    with transaction(engine) as tx:
        tx.exec_driver_sql(
            "update work_queue set status = %(status)s, locked_at = null, finished_at = %(at)s "
            "where id = %(id)s",
            {"status": status, "at": NOW if status == "discarded" else None, "id": item.id},
        )


@pytest.mark.parametrize(
    "fault",
    [
        RetryLater("shopify.throttled", wait=timedelta(seconds=3)),
        OutcomeUnknown("shopify.no_answer"),
        Misconfigured("shopify.token_refused"),
        Refused("shopify.invalid_location"),
    ],
    ids=lambda fault: fault.code,
)
def test_failure_that_the_provider_named_is_the_outcome(
    shop: Engine, api: FakeStockApi, fault: WorkError
) -> None:
    api.fail = fault

    assert run(shop, api, take(shop))[0] is fault
    assert rows(shop, FIGURES) == [(7, 10)]


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("delete from shop_secrets", "shopify.no_token"),
        ("update shop_config set shopify_domain = ''", "shopify.no_domain"),
        ("update shop_secrets set sealed = 'broken'", "shopify.token_unreadable"),
    ],
)
def test_error_of_an_unreachable_shop_says_what_to_do(
    shop: Engine, api: FakeStockApi, statement: str, code: str
) -> None:
    with transaction(shop) as tx:
        tx.exec_driver_sql(statement)

    outcome = run(shop, api, take(shop))[0]

    assert isinstance(outcome, Misconfigured)
    assert outcome.code == code
