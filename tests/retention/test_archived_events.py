"""Old events whose work is finished are in the archive store, whole, and not in the database."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Connection, Engine, select, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Misconfigured, RetryLater
from services.ledger.filters import EventFilter
from services.ledger.replay import replay_events
from services.ledger.replay_archived import replay_archived
from services.ledger.tables import inbound_events
from services.privacy import data_sources, text_data
from services.privacy.archived_data import ARCHIVED_EVENTS
from services.privacy.data_sources import DATA_SOURCES
from services.privacy.subject import DataSubject
from services.providers.object_store import FolderStore
from services.retention.verify import verify_archives
from tests.ledger_rows import NOW, accept, new_event
from tests.privacy.customers import history, process_events, request_privacy
from tests.privacy.test_customer_redaction import figures
from tests.retention.old_rows import make_old, read_all, run_job, select_all

IDS = "select id from inbound_events order by id"
EVENTS = (
    "select id, topic, delivery_key, headers, body, received_at, occurred_at, request_id from inbound_events"
)


def test_old_events_are_archived_whole_with_their_work_and_deleted(shop: Engine) -> None:
    make_old(shop, "topic <> 'customers/create'")
    before = {row[0]: row for row in select_all(shop, EVENTS)}
    young = select_all(shop, "select id from inbound_events where topic = 'customers/create' order by id")
    unreadable = select_all(shop, "select event_id from work_queue where status = 'dead'")

    stats = run_job(shop)

    events, sealed = read_all(shop)
    assert (set(events), sealed) == (set(before) - {*young, *unreadable}, {})
    for one in events.values():
        found = (
            one.id, one.topic, one.delivery_key, one.headers, one.body, one.received_at, one.occurred_at,
            one.request_id,
        )  # fmt: skip
        assert found == tuple(before[one.id])
    order = next(one for one in events.values() if one.topic == "orders/create")
    assert [(work["topic"], work["status"]) for work in order.work] == [("order_ingest", "done")]
    assert order.key.startswith("k")
    assert select_all(shop, IDS) == sorted([*young, *unreadable])
    assert select_all(shop, "select distinct event_id from work_queue order by 1") == sorted(
        [*young, *unreadable]
    )
    assert stats["events_archived"] == len(events)


def test_events_with_open_work_and_privacy_requests_stay(shop: Engine) -> None:
    accept(shop, new_event(500), new_event(501, topic="customers/redact", body=b"{}", key=""))
    with transaction(shop) as tx:
        tx.execute(
            text("update work_queue set status = 'done', finished_at = now() where topic = 'privacy_redact'")
        )
    make_old(shop)

    run_job(shop)

    stay = set(select_all(shop, "select delivery_key from inbound_events"))
    assert stay == {"delivery-99", "delivery-500", "delivery-501"}


def test_the_archive_has_an_entry_in_the_audit_chain_of_its_shop(shop: Engine, archive: FolderStore) -> None:
    make_old(shop)

    run_job(shop)

    entries = select_all(
        shop,
        "select e.shop_id, m.after ->> 'object_key', (m.after ->> 'events')::int from audit_events e "
        "join audit_mutations m on m.event_id = e.id where e.action = 'events.archive'",
    )
    assert entries == [(1, key, 12) for key in archive.find_keys("ledger/")]
    (verified,) = verify_archives(transaction, archive, None)
    assert (verified.events, verified.readable, verified.is_in_audit, verified.fault) == (12, 12, True, "")


def test_nothing_is_archived_twice(shop: Engine, archive: FolderStore) -> None:
    make_old(shop)
    run_job(shop)
    keys = archive.find_keys("ledger/")

    stats = run_job(shop)

    assert (stats["events_archived"], archive.find_keys("ledger/")) == (0, keys)


def test_each_shop_has_its_own_objects(engine: Engine, archive: FolderStore) -> None:
    with transaction(engine) as tx:
        for slug in ("harbour", "island"):
            tx.execute(
                text(
                    "insert into shops (slug, name, timezone, currency) values (:slug, :slug, 'UTC', 'CAD')"
                ),
                {"slug": slug},
            )
    accept(engine, *(new_event(number, shop_id=1 + number % 2, topic="no/handler") for number in range(6)))
    make_old(engine)

    run_job(engine)

    assert [key.split("/")[1] for key in archive.find_keys("ledger/")] == ["shop-1", "shop-2"]
    assert {one.shop_id for one in read_all(engine, shop_id=2)[0].values()} == {2}
    assert len(read_all(engine)[0]) == 6


def test_a_replay_of_archived_events_yields_the_same_figures(shop: Engine, archive: FolderStore) -> None:
    before = figures(shop)
    make_old(shop)
    run_job(shop)
    with transaction(shop) as tx:
        for table in before:
            tx.execute(text(f"delete from {table}"))  # noqa: S608

    replayed = replay_archived(
        transaction,
        archive,
        EventFilter(shop_id=1),
        now=NOW,
        by="ada",
        request_id="r-2",
        reason="rows are lost",
    )
    process_events(shop)

    assert len(replayed.event_ids) == 12
    assert figures(shop) == before
    replays = "select distinct origin, replay_of is null from inbound_events where origin = 'replay'"
    assert select_all(shop, replays) == [("replay", False)]


@pytest.mark.parametrize(
    "wanted",
    [
        {"topic": "orders/create"},
        {"provider": "stripe"},
        {"ids": (3, 4)},
        {"since": "cut"},
        {"until": "cut"},
        {"delivery_key": "delivery-3"},
        {"request_id": "request-3"},
        {"origin": "webhook"},
    ],
)
def test_filters_choose_the_same_events_in_the_archive_as_in_the_table(
    shop: Engine, wanted: dict[str, Any]
) -> None:
    cut = utc_now() - timedelta(days=105)
    with transaction(shop) as tx:
        tx.execute(text("delete from inbound_events where delivery_key = 'delivery-99'"))
    make_old(shop, "id < 6")
    make_old(shop, "id >= 6", timedelta(days=110))
    wanted = {name: cut if value == "cut" else value for name, value in wanted.items()}
    matches = select(inbound_events.c.id).where(EventFilter(**wanted).where())
    with transaction(shop) as tx:
        found = set(tx.scalars(matches))

    run_job(shop)

    assert found
    assert set(read_all(shop, **wanted)[0]) == found


def test_without_a_writable_store_the_job_fails_and_deletes_nothing(shop: Engine, tmp_path: Path) -> None:
    make_old(shop)
    with transaction(shop) as tx:
        tx.execute(
            text(
                "insert into request_counts (minute, shop, provider, outcome, route, status, count)"
                " values (now() - interval '1 year', 'a', 'stripe', 'accepted', '', 200, 1)"
            )
        )
    (tmp_path / "archive").write_text("a file where the folder should be")
    before = select_all(shop, IDS)

    with pytest.raises((RetryLater, Misconfigured)) as caught:
        run_job(shop)

    assert caught.value.code.startswith("archive.")
    assert select_all(shop, IDS) == before
    assert select_all(shop, "select count(*) from request_counts") == [1]


def test_a_delivery_that_comes_again_is_a_duplicate_until_its_event_is_archived(shop: Engine) -> None:
    first = history()[3]
    make_old(shop)
    (again,) = accept(shop, first)
    assert not again.is_new

    run_job(shop)
    figures_before = figures(shop)
    process_events(shop, first)

    assert figures(shop) == figures_before, "the version of the order is known: nothing changes"


def test_replay_in_the_table_still_works_beside_the_archive(shop: Engine) -> None:
    make_old(shop, "id <= 4")
    run_job(shop)

    with transaction(shop) as tx:
        replayed = replay_events(tx, EventFilter(shop_id=1), now=NOW, by="ada")

    assert len(replayed.event_ids) == 9


def test_an_export_has_an_event_once_that_is_archived_while_it_is_written(
    shop: Engine, archive: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_old(shop)

    def find_then_archive(tx: Connection, subject: DataSubject) -> Iterator[Any]:
        yield from ARCHIVED_EVENTS.find(tx, subject)
        run_job(shop)

    changed = replace(ARCHIVED_EVENTS, find=find_then_archive)
    sources = [changed if one is ARCHIVED_EVENTS else one for one in DATA_SOURCES]
    monkeypatch.setattr(data_sources, "DATA_SOURCES", tuple(sources))
    request_privacy(shop, "customers/data_request", 701)

    (key,) = archive.find_keys("privacy/")
    kept = {place["where"]: place["rows"] for place in orjson.loads(archive.get(key))["kept"]}
    assert len(read_all(shop)[0]) == 12
    assert kept[ARCHIVED_EVENTS.name] == []
    # 10 archived events of John, the event that is not JSON, and the request.
    assert len(kept[text_data.EVENTS.name]) == 12
