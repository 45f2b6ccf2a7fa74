"""Causes of breaks, found in the ledger and in Stripe's events."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, text

from services.core.db import transaction
from services.core.errors import Misconfigured, RetryLater
from services.ledger.accept import NewEvent, record_events
from services.ledger.pause import PauseScope, record_pause
from services.payments.break_causes import EVENT_TYPES, MAX_EVENTS, suggest_causes
from services.payments.comparison import DayComparison
from services.providers.stripe import stripe_object_key
from tests.payments.day_rows import BEGINS, DAY, NOON, NOW, add_recorded, match_rows, row
from tests.shopify.sample_payloads import add_shop, rows


class FakeEventList:
    """Stripe's list of events, newest first."""

    def __init__(self, *events: dict[str, Any], fail: Exception | None = None) -> None:
        self.events, self.fail = events, fail
        self.requests: list[tuple[datetime, datetime]] = []
        self.read = 0

    def __call__(
        self,
        key: str,
        base_url: str,
        kind: str,
        *,
        created_gte: datetime | None = None,
        created_lt: datetime | None = None,
        **filters: Any,
    ) -> Iterator[dict[str, Any]]:
        assert kind == "events"
        assert filters == {"types": list(EVENT_TYPES)}
        assert created_gte is not None
        assert created_lt is not None
        self.requests.append((created_gte, created_lt))
        if self.fail:
            raise self.fail
        for event in sorted(self.events, key=lambda each: -each["created"]):
            if created_gte.timestamp() <= event["created"] < created_lt.timestamp():
                self.read += 1
                yield event


def event(
    event_id: str, of: str, *, minutes: int = 0, kind: str = "charge.succeeded", **more: Any
) -> dict[str, Any]:
    source = {"id": of, "object": kind.split(".", maxsplit=1)[0]}
    created = int((NOON + timedelta(minutes=minutes)).timestamp())
    return {
        "id": event_id,
        "object": "event",
        "type": kind,
        "created": created,
        "data": {"object": source},
    } | more


def receive(engine: Engine, body: dict[str, Any]) -> int:
    """Record a Stripe event; return the id of its work."""
    with transaction(engine) as tx:
        (accepted,) = record_events(
            tx,
            [
                NewEvent(
                    shop_id=1,
                    provider="stripe",
                    topic=body["type"],
                    delivery_key=body["id"],
                    body=orjson.dumps(body),
                    received_at=NOW,
                    key=stripe_object_key(body),
                )
            ],
        )
        return accepted.work[0].id


def settle(engine: Engine, work_id: int, status: str) -> None:
    with transaction(engine) as tx:
        tx.execute(
            text("update work_queue set status = :status where id = :id"), {"status": status, "id": work_id}
        )


def causes(
    engine: Engine,
    events: FakeEventList,
    day: DayComparison = DAY,
    now: datetime = NOW,
    key: str = "rk_test_1",
) -> dict[str, tuple[str, str]]:
    """Return the cause and its event of each break, by the break's id."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.payments.break_causes.fetch_objects", events)
        suggest_causes(key, "https://stripe.test", day._replace(now=now))
    staged = rows(engine, "select provider_id, cause, cause_event_id from reconciliation_staging order by 1")
    return {of: (cause, event_id) for of, cause, event_id in staged}


def find(engine: Engine, *stripe_rows: Any) -> None:
    with transaction(engine) as tx:
        match_rows(tx, stripe_rows)


@pytest.fixture
def shop(engine: Engine) -> Engine:
    add_shop(engine)
    return engine


def test_lost_webhook_is_named_by_the_newest_event_of_its_days(shop: Engine) -> None:
    find(shop, row("ch_1"), row("ch_2"))
    listed = FakeEventList(
        event("evt_1", "ch_1"),
        event("evt_2", "ch_1", minutes=5, kind="charge.updated"),
        event("evt_3", "ch_1", minutes=60 * 40, kind="charge.refunded"),
        event("evt_9", "ch_9"),
    )

    assert causes(shop, listed, now=NOW + timedelta(days=3)) == {
        "ch_1": ("lost_webhook", "evt_2"),
        "ch_2": ("unknown", ""),
    }
    ((lost, here),) = rows(
        shop,
        "select evidence -> 'lost_events', evidence -> 'events_here' from reconciliation_staging "
        "where provider_id = 'ch_1'",
    )
    assert sorted(lost) == ["evt_1", "evt_2", "evt_3"]
    assert here == 0


def test_events_are_listed_once_for_all_breaks_in_two_windows(shop: Engine) -> None:
    find(shop, *(row(f"ch_{n}") for n in range(30)))
    listed = FakeEventList()

    causes(shop, listed, now=NOW + timedelta(days=3))

    turn = DAY.ends + timedelta(days=1)
    assert listed.requests == [(BEGINS, turn), (turn, NOW + timedelta(days=3, seconds=1))]


def test_recorded_event_names_its_work(shop: Engine) -> None:
    find(shop, *(row(f"ch_{n}") for n in (1, 2, 3, 4)))
    bodies = {n: event(f"evt_{n}", f"ch_{n}") for n in (1, 2, 3, 4)}
    work = {n: receive(shop, bodies[n]) for n in bodies}
    for n, status in ((1, "dead"), (3, "discarded"), (4, "done")):
        settle(shop, work[n], status)

    assert causes(shop, FakeEventList(*bodies.values())) == {
        "ch_1": ("dead_work", "evt_1"),
        "ch_2": ("in_queue", "evt_2"),
        "ch_3": ("discarded_work", "evt_3"),
        "ch_4": ("unknown", ""),
    }
    assert rows(
        shop, "select evidence -> 'work_ids' from reconciliation_staging where provider_id = 'ch_1'"
    ) == [([work[1]],)]
    assert rows(
        shop, "select evidence -> 'events_here' from reconciliation_staging where provider_id = 'ch_4'"
    ) == [(1,)]


def test_work_that_a_pause_holds_is_paused(shop: Engine) -> None:
    find(shop, row("ch_1"))
    receive(shop, event("evt_1", "ch_1"))
    with transaction(shop) as tx:
        record_pause(tx, PauseScope(topic="transaction_ingest"), "hold", now=NOW, by="ada", reason="")

    assert causes(shop, FakeEventList()) == {"ch_1": ("paused", "evt_1")}


def test_work_on_the_refunds_charge_explains_the_refund_only_if_it_names_it(shop: Engine) -> None:
    find(shop, row("re_1", parent_id="ch_1"), row("re_2", parent_id="ch_1"))
    body = event("evt_1", "re_1", kind="refund.created")
    body["data"]["object"]["charge"] = "ch_1"
    settle(shop, receive(shop, body), "dead")

    assert causes(shop, FakeEventList()) == {"re_1": ("dead_work", "evt_1"), "re_2": ("unknown", "")}


@pytest.mark.parametrize(
    ("staged", "key", "cause"),
    [
        ({"livemode": False}, "rk_live_1", "not_ours"),
        ({"livemode": True}, "rk_live_1", "never_at_stripe"),
        ({"livemode": False}, "rk_test_1", "never_at_stripe"),
        ({"account": "acct_2"}, "rk_test_1", "not_ours"),
    ],
)
def test_cause_of_a_payment_missing_at_stripe_is_found(
    shop: Engine, staged: dict[str, Any], key: str, cause: str
) -> None:
    work_id = receive(shop, event("evt_1", "ch_1", **staged))
    settle(shop, work_id, "done")
    with transaction(shop) as tx:
        add_recorded(tx, [row("ch_1")])
        tx.exec_driver_sql("update transactions set event_id = (select id from inbound_events)")
    find(shop)

    assert causes(shop, FakeEventList(), key=key) == {"ch_1": (cause, "")}


def test_day_older_than_stripes_events_says_so(shop: Engine) -> None:
    find(shop, row("ch_1"))
    listed, now = FakeEventList(), NOON + timedelta(days=30, hours=1)

    assert causes(shop, listed, now=now) == {"ch_1": ("too_old_for_events", "")}
    assert listed.requests[0][0] == now - timedelta(days=30)


def test_own_kinds_have_their_own_causes_and_need_no_events(shop: Engine) -> None:
    pair = [
        row("ch_1", order_ref="o", fee_cents=1),
        row("ch_2", order_ref="o", at=NOON + timedelta(minutes=1)),
    ]
    with transaction(shop) as tx:
        add_recorded(tx, [pair[0]._replace(fee_cents=2), pair[1]])
    find(shop, *pair)
    listed = FakeEventList()

    assert causes(shop, listed) == {"ch_1": ("fee_differs", ""), "ch_2": ("paid_twice", "")}
    assert listed.requests == []


def test_key_that_may_not_list_events_leaves_the_breaks_unexplained(shop: Engine) -> None:
    find(shop, row("ch_1"))

    assert causes(shop, FakeEventList(fail=Misconfigured("stripe.key_refused"))) == {"ch_1": ("unknown", "")}
    assert rows(shop, "select evidence ->> 'events' from reconciliation_staging") == [
        ("refused: stripe.key_refused",)
    ]


def test_unreachable_stripe_is_retried(shop: Engine) -> None:
    find(shop, row("ch_1"))

    with pytest.raises(RetryLater):
        causes(shop, FakeEventList(fail=RetryLater("stripe.unavailable")))


def test_listing_is_cut_off_after_its_budget_and_says_so(
    shop: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.payments.break_causes.MAX_EVENTS", 3)
    find(shop, row("ch_1"))
    listed = FakeEventList(*(event(f"evt_{n}", "ch_9", minutes=n) for n in range(5)))

    assert causes(shop, listed) == {"ch_1": ("unknown", "")}
    assert listed.read <= 4
    assert rows(shop, "select evidence ->> 'events' from reconciliation_staging") == [
        ("cut off after 3 events",)
    ]
    assert MAX_EVENTS >= 10_000
