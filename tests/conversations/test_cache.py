"""The canvas cache: Valkey, then the database, then Notion; what is lost in one is read from the next."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import redis
from sqlalchemy import Engine, text

from services.conversations.cache import store_entry, store_page
from services.conversations.cache_copies import begin_loading, end_loading
from services.conversations.cache_lookup import CacheHit, find_cached, find_fresh, get_page
from services.conversations.cache_refresh import refresh_cache
from services.conversations.figures import collect_figures
from services.conversations.merchants import find_by_addresses
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import RetryLater
from tests.cli.commands import run
from tests.conversations.notion_shop import NotionShop, shop_with_notion
from tests.conversations.quo_events import make_call, make_message
from tests.fakes.settings import settings_of

PHONE = "+15550000002"
KEY = f"canvas:phone:{PHONE}"


@pytest.fixture
def valkey(broker_url: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(broker_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def acme(engine: Engine, valkey: "redis.Redis") -> Iterator[NotionShop]:
    with shop_with_notion(engine) as one:
        yield one


def write_page(acme: NotionShop) -> str:
    """Return the page of a call of today."""
    receive_calls(acme, 1)
    ((page_id,),) = acme.rows("select page_id from merchants")
    return str(page_id)


def receive_calls(acme: NotionShop, count: int) -> None:
    """Receive calls of today from ``count`` numbers, of which the first is ``PHONE``."""
    acme.receive(*(make_call(f"AC{number}", f"+1555000000{number + 2}") for number in range(count)))
    acme.run_to_the_end()
    acme.rows("update interactions set occurred_at = now() returning 1")


def get(acme: NotionShop, phone: str = PHONE) -> CacheHit:
    return get_page((acme.shop.id, phone))


def age(acme: NotionShop, hours: float) -> None:
    with transaction(acme.engine) as tx:
        statement = "update canvas_cache set expires_at = expires_at - :by, checked_at = checked_at - :by"
        tx.execute(text(statement), {"by": timedelta(hours=hours)})


def test_valkey_is_read_first_then_the_database_then_notion(acme: NotionShop, valkey: "redis.Redis") -> None:
    page_id, before = write_page(acme), acme.requests()
    assert [get(acme).source for _ in range(2)] == ["database", "valkey"]
    valkey.flushall()
    assert (get(acme).source, get(acme).entry.page_id) == ("database", page_id)
    assert acme.requests() == before
    valkey.flushall()
    acme.rows("delete from canvas_cache returning 1")
    assert (get(acme).source, acme.requests()) == ("notion", before + 1)
    assert acme.rows("select page_id from canvas_cache") == [(page_id,)]


def test_a_copy_has_no_phone_number_and_expires_with_its_entry(
    acme: NotionShop, valkey: "redis.Redis"
) -> None:
    write_page(acme)
    entry = get(acme).entry
    ((name, content),) = [(key, valkey.get(key)) for key in valkey.scan_iter("canvas:*")]
    assert PHONE[1:] not in name + str(content)
    assert timedelta(hours=6) < timedelta(seconds=valkey.ttl(name)) <= timedelta(hours=24)
    assert entry.expires_at - entry.checked_at == timedelta(hours=24)


def test_the_loss_of_valkey_costs_no_answer(acme: NotionShop) -> None:
    page_id = write_page(acme)
    with settings_of(BROKER_URL="redis://127.0.0.1:1/0"):
        assert (get(acme).source, get(acme).entry.page_id) == ("database", page_id)
        acme.receive(make_message("ACM1"))
        acme.run_to_the_end()
        assert len(acme.pages()) == 1
        shown = run("conversations", "cache", "status")
        assert shown.exit_code == 0
        assert "the database has all entries" in shown.output


def test_a_flushed_valkey_makes_no_request_to_notion(acme: NotionShop, valkey: "redis.Redis") -> None:
    write_page(acme)
    acme.receive(make_message("ACM1"))
    valkey.flushall()
    before = acme.requests()
    acme.run_to_the_end()
    # The message's block alone: the page is known.
    assert acme.requests() - before == 1


def test_a_copy_of_another_page_than_the_merchants_counts_as_none(acme: NotionShop) -> None:
    write_page(acme)
    get(acme)
    with transaction(acme.engine) as tx:
        merchant = find_by_addresses(tx, [(acme.shop.id, PHONE)])[acme.shop.id, PHONE]
        for page_id, fresh in ((merchant.page_id, {merchant.id}), ("another", set())):
            known = {merchant.id: merchant._replace(page_id=page_id)}
            assert find_fresh(tx, known, utc_now()) == fresh


def test_an_address_without_a_page_is_read_once_and_again_after_five_minutes(acme: NotionShop) -> None:
    write_page(acme)
    before = acme.requests()
    assert [get(acme, "+15550009999").source for _ in range(3)] == ["notion", "valkey", "valkey"]
    assert get(acme, "+15550009999").entry.page_id == ""
    assert acme.requests() - before == 1
    entry = get(acme, "+15550009999").entry
    assert entry.expires_at - entry.checked_at == timedelta(minutes=5)
    assert find_cached((acme.shop.id, "+15550009999"), utc_now() + timedelta(minutes=6)) is None


def test_concurrent_misses_of_one_address_make_one_request(acme: NotionShop) -> None:
    write_page(acme)
    acme.rows("delete from canvas_cache returning 1")
    acme.control(slow_seconds=0.2)
    before = acme.requests()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: get(acme), range(8)))
    assert len({hit.entry.page_id for hit in found}) == 1
    assert [hit.source for hit in found].count("notion") == 1
    assert acme.requests() - before == 1


def test_a_miss_that_another_process_loads_is_waited_for(acme: NotionShop) -> None:
    page_id = write_page(acme)
    address = (acme.shop.id, PHONE)
    acme.rows("delete from canvas_cache returning 1")
    assert begin_loading(address)
    before = acme.requests()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(get, acme)
        with transaction(acme.engine) as tx:
            merchant = find_by_addresses(tx, [address])[address]
            store_page(tx, merchant, page_id, utc_now())
        assert waiting.result(timeout=60).entry.page_id == page_id
    end_loading(address)
    assert acme.requests() == before


def test_a_failed_read_frees_the_address_for_the_next_one(acme: NotionShop) -> None:
    page_id = write_page(acme)
    acme.rows("delete from canvas_cache returning 1")
    acme.control(fail_next={"status": 503, "count": 1})
    with pytest.raises(RetryLater):
        get(acme)
    assert get(acme).entry.page_id == page_id


def test_entries_of_active_merchants_are_refreshed_before_they_have_six_hours_left(acme: NotionShop) -> None:
    write_page(acme)
    age(acme, 15.9)
    assert refresh_cache(acme.shop.id, utc_now()).refreshed == 0
    age(acme, 0.2)
    before = acme.requests()
    assert refresh_cache(acme.shop.id, utc_now())[1:] == (1, 0, 0, 0)
    assert acme.requests() - before == 1
    assert refresh_cache(acme.shop.id, utc_now()).refreshed == 0
    assert find_cached((acme.shop.id, PHONE), utc_now() + timedelta(hours=23)) is not None


def test_unused_entries_are_deleted_before_they_count_as_expiring(acme: NotionShop) -> None:
    write_page(acme)
    get(acme, "+15550009999")
    acme.rows("update interactions set occurred_at = now() - interval '31 days' returning 1")
    age(acme, 15.9)
    assert refresh_cache(acme.shop.id, utc_now())[1:] == (0, 0, 1, 0)
    age(acme, 0.2)
    assert refresh_cache(acme.shop.id, utc_now(), is_dry=True).deleted == 1
    assert refresh_cache(acme.shop.id, utc_now()).deleted == 1
    assert acme.rows("select 1 from canvas_cache") == []


def test_a_run_refreshes_so_many_and_the_next_one_goes_on(acme: NotionShop) -> None:
    receive_calls(acme, 3)
    age(acme, 20)
    found = [refresh_cache(acme.shop.id, utc_now(), most=2) for _ in range(2)]
    assert [(one.refreshed, one.left) for one in found] == [(2, 1), (1, 0)]


def test_a_page_that_is_in_the_trash_is_forgotten_and_made_again_with_all_blocks(acme: NotionShop) -> None:
    page_id = write_page(acme)
    headers = {"authorization": "Bearer ntn_acme", "notion-version": "2026-03-11"}
    acme.server.state.answer_notion("PATCH", ["pages", page_id], {}, {"in_trash": True}, headers)
    age(acme, 20)
    assert refresh_cache(acme.shop.id, utc_now()).gone == 1
    assert acme.rows("select page_id from merchants") == [("",)]
    acme.receive(make_message("ACM1"))
    acme.run_to_the_end()
    assert [len(titles) for titles in acme.titles()] == [2]
    assert acme.pages()[0]["id"] != page_id


def test_an_invalidated_key_is_read_again_and_three_in_30_days_are_a_figure(
    acme: NotionShop, valkey: "redis.Redis"
) -> None:
    page_id = write_page(acme)
    planned = run("conversations", "cache", "invalidate", KEY, "--shop", "acme", "--dry-run", "--json")
    assert json.loads(planned.stdout)["keys"] == [KEY]
    assert get(acme).source == "database"
    for number in range(1, 4):
        done = run("conversations", "cache", "invalidate", KEY, "--shop", "acme", "--json")
        assert done.exit_code == 0, done.output
        assert acme.rows("select 1 from canvas_cache") == []
        assert list(valkey.scan_iter("canvas:*")) == []
        hit = get(acme)
        assert (hit.source, hit.entry.page_id) == ("notion", page_id)
        with transaction(acme.engine) as tx:
            (figure,) = collect_figures(tx, utc_now())["canvas_invalidated"]
            assert (figure.value, figure.shop_id) == (number, acme.shop.id)
            assert collect_figures(tx, utc_now() + timedelta(days=31))["canvas_invalidated"] == []
    audit = acme.rows("select count(*) from audit_events where action = 'canvas.invalidate'")
    assert audit == [(3,)]


def test_status_has_the_stale_and_the_expiring_ratio(acme: NotionShop) -> None:
    receive_calls(acme, 4)
    acme.rows("update canvas_cache set expires_at = now() where address like '%2' returning 1")
    soon = (
        "update canvas_cache set expires_at = now() + interval '5 hours' where address like '%3' returning 1"
    )
    acme.rows(soon)
    (shown,) = json.loads(run("conversations", "cache", "status", "--json").stdout)["shops"]
    assert (shown["entries"], shown["stale_ratio"], shown["expiring_ratio"]) == (4, 0.25, 0.25)
    done = run("conversations", "cache", "refresh", "--shop", "acme", "--json")
    document = json.loads(done.stdout)
    ratios = {"before": (0.25, 0.25), "after": (0.0, 0.0)}
    for when, (stale, expiring) in ratios.items():
        assert document.pop(when) == {"stale_ratio": stale, "expiring_ratio": expiring}
    assert document == {
        "shop": "acme", "dry_run": False, "copied": 3, "refreshed": 2, "gone": 0, "deleted": 0, "left": 0,
    }  # fmt: skip
    (shown,) = json.loads(run("conversations", "cache", "status", "--json").stdout)["shops"]
    assert (shown["stale"], shown["expiring"], shown["copies"]) == (0, 0, 4)
    single = run("conversations", "cache", "refresh", PHONE, "--shop", "acme", "--json")
    assert json.loads(single.stdout)["refreshed"] == 1


def test_shares_are_figures_of_shops_with_enough_pages(acme: NotionShop) -> None:
    get(acme, "+15550009999")
    for count, shares in ((19, []), (1, [10.0])):
        with transaction(acme.engine) as tx:
            for number in range(count):
                store_entry(tx, (acme.shop.id, f"+1555{count:03}{number:04}"), 0, "a-page", utc_now())
            tx.execute(text("update canvas_cache set expires_at = now() where address like '+1555019000%'"))
            soon = "update canvas_cache set expires_at = now() + interval '5 h' where address like "
            tx.execute(text(f"{soon} '+1555019001%'"))
            found = collect_figures(tx, utc_now())
            # Of 20 entries with a page ten are stale and nine expire soon.
            assert [one.value for one in found["canvas_stale"]] == [5 * share for share in shares]
            assert [one.value for one in found["canvas_expiring"]] == [4.5 * share for share in shares]
