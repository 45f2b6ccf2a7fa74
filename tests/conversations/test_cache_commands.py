"""``fleet conversations cache``: keys as people write them, and what each command prints."""

import json

from services.conversations.cache import store_entry
from services.core.clock import utc_now
from services.core.db import transaction
from tests.cli.commands import run
from tests.conversations.notion_shop import NotionShop
from tests.conversations.test_cache import KEY, PHONE, acme, valkey, write_page

__all__ = ["acme", "valkey"]


def test_the_commands_show_entries_by_key(acme: NotionShop) -> None:
    page_id = write_page(acme)
    for prefix in ("canvas:", "canvas:phone:", "phone:+1555", "+1555", ""):
        listed = json.loads(run("conversations", "cache", "list", "--prefix", prefix, "--json").stdout)
        assert [(one["key"], one["page_id"]) for one in listed] == [(KEY, page_id)], prefix
    for prefix in ("canvas:mail:", "+1666", "mail:"):
        assert json.loads(run("conversations", "cache", "list", "--prefix", prefix, "--json").stdout) == []
    for prefix in ("canvas:nope:", "nope:", "canvas:+1555"):
        refused = run("conversations", "cache", "list", "--prefix", prefix)
        assert (refused.exit_code, "canvas:phone: or canvas:mail:" in refused.output) == (2, True), prefix
    found = json.loads(run("conversations", "cache", "get", PHONE, "--shop", "acme", "--json").stdout)
    assert (found["key"], found["source"], found["hours_left"] > 23) == (KEY, "database", True)
    none_words = ("conversations", "cache", "get", "+15550009999", "--shop", "acme", "--cached")
    none = run(*none_words)
    assert (none.exit_code, "has no entry" in none.output) == (0, True)
    document = json.loads(run(*none_words, "--json").stdout)
    assert document == dict.fromkeys(found) | {"key": "canvas:phone:+15550009999", "shop": "acme"}
    wrong = run("conversations", "cache", "get", "canvas:phone:ada", "--shop", "acme")
    assert (wrong.exit_code, "canvas:phone:+15551234567" in wrong.output) == (2, True)
    for verb in ("get", "invalidate", "refresh"):
        local = run("conversations", "cache", verb, "555-000-0002", "--shop", "acme")
        assert (local.exit_code, "+ and the country code" in local.output) == (2, True), verb


def test_keys_of_mail_addresses_are_found_in_any_case(acme: NotionShop) -> None:
    with transaction(acme.engine) as tx:
        store_entry(tx, (acme.shop.id, "ada@example.com"), 0, "a-page", utc_now())
    for prefix in ("canvas:mail:ADA", "Ada@", "MAIL:"):
        listed = json.loads(run("conversations", "cache", "list", "--prefix", prefix, "--json").stdout)
        assert [one["key"] for one in listed] == ["canvas:mail:ada@example.com"], prefix


def test_a_key_without_an_entry_is_named_and_not_counted(acme: NotionShop) -> None:
    write_page(acme)
    words = ("conversations", "cache", "invalidate", KEY, "+15550009999", "--shop", "acme")
    for more, first in ((("--dry-run",), "Would invalidate"), ((), "Invalidated")):
        shown = run(*words, *more).output
        assert shown.startswith(f"{first} {KEY} of acme.\n")
        assert "acme has no entry canvas:phone:+15550009999: nothing is counted." in shown
    document = json.loads(run(*words, "--json").stdout)
    assert (document["keys"], document["without_entry"]) == ([], [KEY, "canvas:phone:+15550009999"])
    assert acme.rows("select count(*) from canvas_invalidations") == [(1,)]


def test_a_refresh_of_keys_is_counted_by_a_dry_run_too(acme: NotionShop) -> None:
    write_page(acme)
    acme.rows("update canvas_cache set expires_at = now() returning 1")
    before = acme.requests()
    shown = [
        run("conversations", "cache", "refresh", PHONE, "--shop", "acme", *more)
        for more in (("--dry-run",), ())
    ]
    lines = [[line.split(maxsplit=1) for line in one.output.splitlines()] for one in shown]
    for of_one, after in zip(lines, ("stale 100%, expiring 0%", "stale 0%, expiring 0%"), strict=True):
        assert ["refreshed", "1"] in of_one
        assert ["before", "stale 100%, expiring 0%"] in of_one
        assert ["after", after] in of_one
    assert acme.requests() - before == 1
