"""The nightly comparison of pages at Notion with the database repairs what differs."""

import json
from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

from services.conversations import drift
from services.conversations.figures import FEWEST, collect_figures
from services.core.clock import utc_now
from services.core.db import transaction
from services.jobs.definition import Covers
from services.jobs.handler import JobResult, JobRun
from services.providers.notion import Notion
from tests.cli.commands import run
from tests.conversations.notion_shop import NOTION_KEY, NotionShop, shop_with_notion
from tests.conversations.quo_events import make_call, make_message, make_part


@pytest.fixture
def acme(engine: Engine) -> Iterator[NotionShop]:
    with shop_with_notion(engine) as one:
        one.receive(make_call(), make_part("summary"), make_part("transcript"), make_message("AC9"))
        one.run_to_the_end()
        yield one


def notion(one: NotionShop) -> Notion:
    return Notion(f"{one.server.url}/notion", NOTION_KEY)


def heal(one: NotionShop, monkeypatch: pytest.MonkeyPatch) -> JobResult:
    """Run the job and then what it planned."""
    monkeypatch.setattr(drift, "send_messages", lambda _refs: None)
    run = make_run(one)
    result = drift.heal_drift(run)
    assert isinstance(result, JobResult)
    one.run_to_the_end()
    return result


def make_run(one: NotionShop) -> JobRun:
    return JobRun(
        id=1, job=drift.JOB, shop_id=one.shop.id, period="2026-11-30", covers=Covers.DAY,
        zone=ZoneInfo("UTC"), request_id="night", work_id=1,
    )  # fmt: skip


def find_page(one: NotionShop) -> str:
    return str(one.pages()[0]["id"])


def test_equal_pages_cost_readings_alone(acme: NotionShop, monkeypatch: pytest.MonkeyPatch) -> None:
    before = acme.titles()
    result = heal(acme, monkeypatch)

    assert (result.result, result.stats) == ("equal", {"pages": 1, "gone": 0, "uuid": 0, "parts": 0})
    assert acme.titles() == before


def test_a_deleted_block_is_written_again(acme: NotionShop, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(acme.titles()[0])
    first = next(notion(acme).list_children(find_page(acme)))
    notion(acme).delete_block(first["id"])

    result = heal(acme, monkeypatch)
    assert result.stats["parts"] == 1
    assert sorted(acme.titles()[0]) == before
    ((was, is_now),) = list_repairs(acme, result)
    assert (len(was["lacks"]), is_now["writes"]) == (1, 1)
    assert heal(acme, monkeypatch).result == "equal"


def test_a_block_that_is_there_twice_stays_once(acme: NotionShop, monkeypatch: pytest.MonkeyPatch) -> None:
    page, before = find_page(acme), sorted(acme.titles()[0])
    first: dict[str, Any] = next(notion(acme).list_children(page))
    rich = [
        {"type": "text", "text": {"content": one["text"]["content"]}} for one in first["toggle"]["rich_text"]
    ]
    notion(acme).append_children(page, [{"type": "toggle", "toggle": {"rich_text": rich}}])
    assert len(acme.titles()[0]) == len(before) + 1

    assert heal(acme, monkeypatch).stats["parts"] == 1
    assert sorted(acme.titles()[0]) == before


def test_a_deleted_page_is_made_again_with_everything(
    acme: NotionShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, before = find_page(acme), sorted(acme.titles()[0])
    notion(acme).update_page(page, in_trash=True)

    result = heal(acme, monkeypatch)
    assert result.stats["gone"] == 1
    assert find_page(acme) != page
    assert sorted(acme.titles()[0]) == before
    assert acme.rows("select count(*) from audit_events where action = 'conversations.drift'") == [(0,)]
    assert list_repairs(acme, result) == [
        ({"page_id": page, "lacks": [], "has_uuid": True}, {"page_id": "", "writes": 1, "has_uuid": True})
    ]


def list_repairs(one: NotionShop, result: JobResult) -> list[tuple[Any, Any]]:
    """Return the state of each page before and after, as the end of the run records it in the audit."""
    assert result.record is not None
    with transaction(one.engine) as tx:
        (entry,) = result.record(tx).audit
    return [(each.before, each.after) for each in entry.mutations[1:]]


def test_a_lost_uuid_is_set_and_other_properties_stay(
    acme: NotionShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = find_page(acme)
    title = {"title": [{"type": "text", "text": {"content": "A name by a person"}}]}
    notion(acme).update_page(page, properties={"Merchant UUID": {"rich_text": []}, "Name": title})

    assert heal(acme, monkeypatch).stats["uuid"] == 1
    properties = acme.pages()[0]["properties"]
    ((uuid,),) = acme.rows("select uuid::text from merchants")
    assert properties["Merchant UUID"]["rich_text"][0]["plain_text"] == uuid
    assert properties["Name"]["title"][0]["plain_text"] == "A name by a person"


def test_a_page_with_a_write_under_way_is_left_out(acme: NotionShop, monkeypatch: pytest.MonkeyPatch) -> None:
    with transaction(acme.engine) as tx:
        tx.exec_driver_sql("update page_parts set attempted_at = now()")

    assert heal(acme, monkeypatch).stats["pages"] == 0


def test_every_page_is_compared_within_some_nights(acme: NotionShop, monkeypatch: pytest.MonkeyPatch) -> None:
    acme.receive(*(make_message(f"AM{n}", number=f"+1555000{n:04}") for n in range(100, 112)))
    acme.run_to_the_end()
    monkeypatch.setattr(drift, "MOST", 4)
    pages = len(acme.pages())
    seen: set[int] = set()
    with transaction(acme.engine) as tx:
        for night in range(pages):
            values = {"shop_id": acme.shop.id, "most": 4, "night": night}
            ids = set(tx.exec_driver_sql(drift._FIND_MERCHANTS, values).scalars())
            assert len(ids) <= 8
            seen |= ids

    assert len(seen) == pages


def test_a_shop_without_notion_is_left_out(engine: Engine) -> None:
    with shop_with_notion(engine) as one:
        with transaction(engine) as tx:
            tx.exec_driver_sql("delete from shop_secrets where name = 'notion-key'")
            tx.exec_driver_sql("update shop_config set notion_data_source = ''")
        run = make_run(one)

        assert drift.heal_drift(run).result == "no_notion"


def test_drift_and_merchants_without_a_page_are_figures(acme: NotionShop) -> None:
    with transaction(acme.engine) as tx:
        assert drift.count_without_page(tx, utc_now()) == []
        tx.exec_driver_sql(
            "insert into job_runs (job, period, shop_id, due_at, status, origin, stats) "
            "values (%(job)s, '2026-11-30', %(shop)s, now(), 'done', 'beat', "
            """'{"pages": 50, "gone": 3, "uuid": 1, "parts": 1}')""",
            {"job": drift.JOB, "shop": acme.shop.id},
        )
        tx.exec_driver_sql(
            "insert into merchants (shop_id, created_at, changed_at) "
            "select %(shop)s, now() - interval '2 days', now() from generate_series(1, %(count)s)",
            {"shop": acme.shop.id, "count": FEWEST},
        )
        figures = collect_figures(tx, utc_now())

    shown = run("conversations", "health", "--json")
    states = {one["check"]: one["state"] for one in json.loads(shown.stdout)["checks"]}
    beyond = {"notion_drift": "degraded", "merchants_without_page": "failing"}
    assert (shown.exit_code, {name: one for name, one in states.items() if one != "ok"}) == (1, beyond)
    assert [(one.value, one.shop_id) for one in figures["notion_drift"]] == [(10, acme.shop.id)]
    assert [one.value for one in figures["merchants_without_page"]] == [100]
