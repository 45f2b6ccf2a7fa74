"""A replay is a new event that refers to the old one, with new work."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from services.core.db import transaction
from services.ledger.filters import EventFilter, FilterInvalid
from services.ledger.replay import ReplayResult, count_replayable, replay_events
from tests.ledger_rows import NOW, accept, new_event, rows_of

LATER = NOW + timedelta(hours=1)


def replay(engine: Engine, wanted: EventFilter) -> ReplayResult:
    with transaction(engine) as tx:
        return replay_events(tx, wanted, now=LATER, by="ada", reason="mended")


def test_replay_is_the_same_bytes_under_an_identity_of_its_own(engine: Engine) -> None:
    body = b'{"id": 9007199254740993,  "name": "\xc3\xa4"}'
    (accepted,) = accept(engine, new_event(1, body=body, headers={"x-shopify-topic": "orders/create"}))

    replayed = replay(engine, EventFilter(ids=(accepted.event_id,)))

    with transaction(engine) as tx:
        old, new = tx.execute(text("select * from inbound_events order by id")).all()
    assert replayed.event_ids == (new.id,)
    assert (bytes(new.body), new.headers) == (body, {"x-shopify-topic": "orders/create"})
    assert (new.origin, new.replay_of, new.received_at) == ("replay", old.id, LATER)
    assert (new.shop_id, new.provider, new.topic) == (old.shop_id, old.provider, old.topic)
    assert new.delivery_key.startswith("replay:")
    assert old.duplicate_count == 0


def test_replay_plans_the_work_again_on_the_same_key(engine: Engine) -> None:
    accept(engine, new_event(1))

    replayed = replay(engine, EventFilter(shop_id=1))

    with transaction(engine) as tx:
        old, new = rows_of(tx)
    assert [(ref.id, ref.queue, ref.topic) for ref in replayed.work] == [
        (new["id"], "webhooks", "order_ingest")
    ]
    assert (new["key"], new["event_id"], new["origin"]) == (old["key"], replayed.event_ids[0], "replay")


def test_same_event_may_be_replayed_again_and_again(engine: Engine) -> None:
    accept(engine, new_event(1))

    first, second = replay(engine, EventFilter(ids=(1,))), replay(engine, EventFilter(ids=(1,)))

    assert first.event_ids != second.event_ids
    assert len(first.work) == len(second.work) == 1


def test_replay_of_a_replay_points_at_the_first_event(engine: Engine) -> None:
    accept(engine, new_event(1))
    (again,) = replay(engine, EventFilter(ids=(1,))).event_ids

    replay(engine, EventFilter(ids=(again,)))

    with transaction(engine) as tx:
        origins = tx.scalars(text("select replay_of from inbound_events order by id")).all()
    assert origins == [None, 1, 1]


def test_window_replayed_twice_does_not_grow(engine: Engine) -> None:
    accept(engine, *(new_event(number) for number in range(250)))
    window = EventFilter(since=NOW, until=NOW + timedelta(days=1))

    assert len(replay(engine, window).event_ids) == 250
    assert len(replay(engine, window).event_ids) == 250


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (EventFilter(shop_id=2), 1),
        (EventFilter(provider="stripe"), 1),
        (EventFilter(topic="orders/create"), 2),
        (EventFilter(ids=(1, 99)), 1),
        (EventFilter(until=NOW), 0),
        (EventFilter(delivery_key="delivery-2"), 1),
        (EventFilter(request_id="request-3"), 1),
        (EventFilter(origin="webhook"), 3),
        (EventFilter(origin="replay"), 0),
        (EventFilter(since=NOW, until=NOW + timedelta(seconds=1)), 3),
    ],
)
def test_every_part_of_a_filter_narrows(engine: Engine, wanted: EventFilter, count: int) -> None:
    accept(
        engine, new_event(1), new_event(2, shop_id=2), new_event(3, provider="stripe", topic="charge.failed")
    )

    with transaction(engine) as tx:
        assert count_replayable(tx, wanted).total() == count
    assert len(replay(engine, wanted).event_ids) == count


def test_replay_of_everything_by_mistake_is_refused(engine: Engine) -> None:
    with pytest.raises(FilterInvalid, match="the filter is empty"):
        replay(engine, EventFilter())
    with pytest.raises(FilterInvalid, match="should be after since"):
        EventFilter(since=LATER, until=NOW)


def test_event_without_a_plan_is_replayed_without_work(engine: Engine) -> None:
    accept(engine, new_event(1, topic="themes/publish"))

    assert replay(engine, EventFilter(ids=(1,))).work == ()


def test_unreadable_event_stays_dead_when_replayed(engine: Engine) -> None:
    accept(engine, new_event(1, body=b"not json", readable=False))

    replay(engine, EventFilter(ids=(1,)))

    with transaction(engine) as tx:
        assert [row["status"] for row in rows_of(tx)] == ["dead", "dead"]


def test_replay_is_audited_with_who_why_and_what(engine: Engine) -> None:
    accept(engine, new_event(1), new_event(2))

    replay(engine, EventFilter(ids=(1, 2)))

    with transaction(engine) as tx:
        audited = tx.execute(
            text(
                "select e.staff_label, m.after from audit_events e "
                "join audit_mutations m on m.event_id = e.id"
            )
        ).one()
    assert audited.staff_label == "ada"
    assert audited.after == {"originals": "1-2", "replays": "3-4", "reason": "mended"}
