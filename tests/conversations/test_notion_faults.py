"""Notion answers late, refuses or loses an answer: each block is on its page once."""

import random
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import redis
from sqlalchemy import Engine

from services.conversations import budget, cache_lookup, pages
from services.conversations.access import NotionAccess
from services.conversations.cache_lookup import refresh_entry
from services.conversations.figures import collect_figures
from services.conversations.merchants import find_merchants
from services.conversations.pages import FoundPage, find_or_create_page
from services.conversations.write_step import NotionWriteHandler
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Deferred, OutcomeUnknown
from services.ledger.claim import claim_leased
from services.ledger.topics import TOPICS
from services.ledger.work import PreparedCall
from services.providers.notion import Notion
from services.sandbox.notion.connection import SAMPLE_DATA_SOURCE
from tests.conversations.notion_shop import NOTION_KEY, NotionShop, shop_with_notion
from tests.conversations.quo_events import make_call, make_message, make_part


@pytest.fixture
def acme(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[NotionShop]:
    # Work that waits for a blocked budget returns to the queue, and ``pass_time`` makes it ready.
    monkeypatch.setattr(budget, "LONGEST_PAUSE", timedelta(seconds=0.2))
    with shop_with_notion(engine) as one:
        yield one


def test_an_append_without_an_answer_is_found_on_the_page(acme: NotionShop) -> None:
    acme.receive(make_message("M1"))
    acme.run_to_the_end()
    acme.control(drop_next=2)
    acme.receive(make_message("M2"), make_message("M3"))
    acme.run_to_the_end()

    (page,) = acme.pages()
    assert len(page["texts"]) == len(set(page["texts"])) == 3
    assert ("notion.no_answer", 1) in acme.rows(
        "select error_code, retry_count from work_queue where topic = 'notion_write'"
    )


def test_a_worker_that_dies_after_the_append_leaves_no_second_copy(acme: NotionShop) -> None:
    acme.receive(make_call(), make_part("summary"))
    acme.run("interaction_ingest", "notion_find", "interaction_fetch", "interaction_enrich")
    with transaction(acme.engine) as tx:
        found = claim_leased(tx, TOPICS["notion_write"], utc_now(), "a worker that dies")
        (call,) = NotionWriteHandler().prepare(tx, found.items, utc_now())
    assert isinstance(call, PreparedCall)
    call.act()
    with transaction(acme.engine) as tx:  # the lease expires
        tx.exec_driver_sql("update work_queue set locked_at = null, locked_by = null, lease_until = null")
    acme.run_to_the_end()

    (page,) = acme.pages()
    assert len(page["texts"]) == len(set(page["texts"])) == 2
    assert acme.rows("select distinct page_state from interactions") == [("written",)]


def test_a_creation_without_an_answer_is_not_repeated_before_a_query_would_find_the_page(
    acme: NotionShop,
) -> None:
    acme.control(index_delay_seconds=25)
    acme.receive(make_message("M1"))
    acme.run("interaction_ingest")
    acme.control(every={"drop_write": 1})
    acme.run("notion_find")
    acme.control(every={"drop_write": 0})
    with transaction(acme.engine) as tx:
        tx.exec_driver_sql("update work_queue set next_retry_at = null where status = 'error'")
    acme.run("notion_find")

    assert len(acme.pages()) == 1
    codes = acme.rows("select error_code from work_queue where status = 'error'")
    assert codes == [("notion.page_in_doubt",)]
    acme.run_to_the_end()
    assert [len(page["texts"]) for page in acme.pages()] == [1]


def find_or_create(acme: NotionShop, transport: httpx.BaseTransport) -> FoundPage:
    """Find or create the page of the first merchant with requests through ``transport``."""
    access = NotionAccess(NOTION_KEY, SAMPLE_DATA_SOURCE)
    with httpx.Client(transport=transport) as client:
        notion = Notion(f"{acme.server.url}/notion", access.key, http=client)
        with transaction(acme.engine) as tx:
            (merchant,) = find_merchants(tx, [1]).values()
        return find_or_create_page(notion, access, merchant)


def test_two_workers_that_find_no_page_create_one(acme: NotionShop) -> None:
    acme.control(index_delay_seconds=25)
    acme.receive(make_message("M1"))
    acme.run("interaction_ingest")

    class CreatesMeanwhile(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            answer = super().handle_request(request)
            if request.url.path.endswith("/query"):
                acme.run("notion_find")
            return answer

    with pytest.raises(Deferred):
        find_or_create(acme, CreatesMeanwhile())

    assert len(acme.pages()) == 1


@pytest.mark.parametrize("is_gone", [False, True], ids=["new", "made_again"])
def test_an_answer_from_before_the_page_was_created_changes_nothing(
    acme: NotionShop, monkeypatch: pytest.MonkeyPatch, *, is_gone: bool
) -> None:
    acme.control(index_delay_seconds=25)
    acme.receive(make_message("M1"))
    acme.run("interaction_ingest")
    if is_gone:
        acme.run_to_the_end()
        page_id = acme.pages()[0]["id"]
        Notion(f"{acme.server.url}/notion", NOTION_KEY).update_page(page_id, in_trash=True)
    read = cache_lookup._read_page_id

    def create_meanwhile(*args: Any) -> str:
        answer = read(*args)
        acme.receive(make_message("M2"))
        acme.run_to_the_end()
        return answer

    monkeypatch.setattr(cache_lookup, "_read_page_id", create_meanwhile)
    entry = refresh_entry((acme.shop.id, "+15550000002"), utc_now())

    (page,) = acme.pages()
    assert entry.page_id == page["id"]
    assert acme.rows("select page_id from merchants") == [(page["id"],)]


@pytest.mark.parametrize(("age", "wait"), [(1, 2), (10, 20)], ids=["likely under way", "without an answer"])
def test_the_wait_for_a_creation_is_short_while_it_is_likely_under_way(
    acme: NotionShop, monkeypatch: pytest.MonkeyPatch, age: int, wait: int
) -> None:
    acme.receive(make_message("M1"))
    acme.run("interaction_ingest")
    now = utc_now()
    monkeypatch.setattr(pages, "utc_now", lambda: now)
    with transaction(acme.engine) as tx:
        begun_at = {"at": now - timedelta(seconds=age)}
        tx.exec_driver_sql("update merchants set page_attempted_at = %(at)s", begun_at)

    with pytest.raises(Deferred) as deferred:
        find_or_create(acme, httpx.HTTPTransport())

    assert deferred.value.wait == timedelta(seconds=wait)


def test_the_wait_after_a_creation_without_an_answer_begins_when_its_request_ends(acme: NotionShop) -> None:
    acme.receive(make_message("M1"))
    acme.run("interaction_ingest")
    ended_at = []

    class LosesAnswers(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            answer = super().handle_request(request)
            if request.url.path.endswith("/v1/pages"):
                ended_at.append(utc_now())
                raise httpx.ReadTimeout("after the write", request=request)
            return answer

    with pytest.raises(OutcomeUnknown):
        find_or_create(acme, LosesAnswers())

    ((attempted_at,),) = acme.rows("select page_attempted_at from merchants")
    assert attempted_at >= ended_at[0]


def test_a_version_whose_append_had_no_answer_is_removed_when_a_newer_one_is_written(
    acme: NotionShop,
) -> None:
    acme.receive(make_call())
    acme.run_to_the_end()
    acme.receive(make_part("summary", text="A first draft."))
    acme.run("interaction_ingest", "notion_find", "interaction_fetch", "interaction_enrich")
    acme.control(every={"drop_write": 1})
    acme.run("notion_write")
    acme.control(every={"drop_write": 0})
    acme.receive(make_part("summary", text="The weather.", seconds=120))
    acme.run_to_the_end()

    assert sorted(acme.titles()[0])[1:] == ["2026-11-20 18:02 UTC · Summary of the call"]


def test_a_refusal_for_the_rate_stops_all_requests_with_the_key(acme: NotionShop) -> None:
    acme.receive(*(make_message(f"M{n}", number=f"+1555000100{n}") for n in range(8)))
    acme.run("interaction_ingest")
    acme.control(fail_next={"status": 429, "count": 1, "headers": {"Retry-After": "30"}})
    acme.run("notion_find")

    assert acme.requests() <= 1 + 8  # those that were under way
    before = acme.requests()
    with transaction(acme.engine) as tx:
        tx.exec_driver_sql("update work_queue set next_retry_at = null where status <> 'done'")
    acme.run("notion_find")
    assert acme.requests() == before
    assert acme.rows("select max(retry_count) from work_queue") == [(0,)]
    acme.run_to_the_end()
    assert len(acme.pages()) == 8


def test_steps_that_fail_are_a_figure_and_deferred_ones_are_not(acme: NotionShop) -> None:
    acme.receive(*(make_message(f"M{n}", number=f"+1555000100{n}") for n in range(3)))
    acme.run("interaction_ingest")
    figures = []
    for status in (429, 500):
        acme.control(fail_next={"status": status, "count": 3})
        acme.run("notion_find")
        with transaction(acme.engine) as tx:
            (*found,) = collect_figures(tx, utc_now())["conversations_failing"]
        figures.append([(one.value, one.shop_id, one.subject, one.detail["code"]) for one in found])
        acme.control(fail_next={"status": 500, "count": 0})
        acme.pass_time(timedelta(minutes=1))

    assert figures == [[], [(3, acme.shop.id, "notion_find", "notion.unavailable")]]


def test_a_part_that_notion_does_not_take_keeps_no_other_part_from_the_page(acme: NotionShop) -> None:
    acme.receive(make_message("M1"))
    acme.run_to_the_end()
    acme.receive(make_message("M2"), make_message("M3"), make_message("M4"))
    acme.run("interaction_ingest", "notion_find", "interaction_fetch", "interaction_enrich")
    # The append of all three, the question whether the page is in the trash, and the append of M2 alone.
    acme.control(fail_next={"status": 400, "count": 3})
    acme.run_to_the_end()

    assert acme.rows("select error_code from work_queue where status = 'dead'") == [
        ("notion.request_refused",)
    ]
    (page,) = acme.pages()
    assert len(page["texts"]) == 4, "the runs of the others write what waits"


def test_a_page_that_was_deleted_is_made_again_with_everything(acme: NotionShop) -> None:
    acme.receive(make_call(), make_part("summary"))
    acme.run_to_the_end()
    (page,) = acme.pages()
    Notion(f"{acme.server.url}/notion", "ntn_acme").update_page(page["id"], in_trash=True)
    acme.receive(make_message("M1"))
    acme.run_to_the_end()

    (other,) = acme.pages()
    assert other["id"] != page["id"]
    assert len(acme.titles()[0]) == 3


def test_a_thousand_shuffled_and_repeated_events_make_fifty_pages_with_each_block_once(
    acme: NotionShop, broker_url: str
) -> None:
    valkey = redis.Redis.from_url(broker_url)
    rng = random.Random(18)
    events: list[dict[str, Any]] = []
    expected: Counter[int] = Counter()
    for n in range(50):
        number, call_id = f"+1555000{n:04}", f"AC{n}"
        own = [
            make_call(call_id, number, "call.ringing", 5),
            make_call(call_id, number),
            *(make_part(name, call_id, number) for name in ("summary", "transcript", "recording")),
            *(make_message(f"M{n}-{m}", number, f"text {m}") for m in range(5)),
        ]
        events += own + rng.choices(own, k=10)
        expected[9] += 1
    rng.shuffle(events)
    assert len(events) == 1000
    acme.control(every={"overload": 23, "rate_limit": 29, "conflict": 17, "drop_write": 7})
    for start in range(0, 1000, 100):
        acme.receive(*events[start : start + 100])
        acme.run()
        acme.pass_time(timedelta(seconds=1))
        valkey.flushall()
    acme.run_to_the_end()
    valkey.close()

    pages = acme.pages()
    assert len(pages) == 50
    assert {page["properties"]["Phone"]["phone_number"] for page in pages} == {
        f"+1555000{n:04}" for n in range(50)
    }
    for page in pages:
        assert len(page["texts"]) == len(set(page["texts"])) == 9
    assert acme.rows("select distinct page_state from interactions") == [("written",)]
    assert acme.rows("select 1 from page_parts where wanted <> written or attempted_at is not null") == []
    assert acme.counts()["lost_answers"] > 5
