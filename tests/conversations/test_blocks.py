"""Blocks keep the limits of Notion, and their digest changes only with what people see."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.conversations.addresses import normalize_all, normalize_mail, normalize_phone
from services.conversations.blocks import (
    count_blocks,
    find_marker,
    hash_blocks,
    mark_blocks,
    render_parts,
    split_text,
)
from services.conversations.page_writer import split_blocks

AT = datetime(2026, 11, 20, 18, tzinfo=UTC)


def row(body: str = "", kind: str = "message", **detail: Any) -> dict[str, Any]:
    known = {"type": f"{kind}.received", "object": {}, "context": {}}
    return {
        "shop_id": 1, "provider_id": "M1", "kind": kind, "direction": "incoming", "status": "received",
        "participants": ["+1555"], "body": body, "occurred_at": AT, "detail": known | detail,
    }  # fmt: skip


@given(st.text(max_size=9000))
def test_a_text_is_split_without_a_loss_into_pieces_that_notion_takes(text: str) -> None:
    pieces = list(split_text(text))
    assert "".join(pieces) == text
    assert all(0 < len(piece.encode("utf-16-le", "surrogatepass")) <= 4000 for piece in pieces)


def test_a_character_beyond_16_bits_counts_twice_as_notion_counts_it() -> None:
    assert [len(piece) for piece in split_text("a" + "🙂" * 1500)] == [1000, 501]


@given(st.lists(st.integers(0, 300_000), max_size=5))
def test_requests_have_at_most_100_blocks(lengths: list[int]) -> None:
    toggles = [render_parts(row("x" * length))["message"] for length in lengths]
    blocks = {
        marker: block
        for number, one in enumerate(toggles)
        for marker, block in mark_blocks(one, f"m{number}", "d").items()
    }
    chunks = list(split_blocks(blocks))
    assert [marker for chunk in chunks for marker in chunk] == list(blocks)
    assert all(sum(map(count_blocks, chunk.values())) <= 100 for chunk in chunks)


def test_requests_have_less_than_the_bytes_that_notion_takes() -> None:
    toggles = render_parts(row("日" * 400_000))["message"]
    blocks = mark_blocks(toggles, "m", "d")
    chunks = list(split_blocks(blocks))
    assert all(len(orjson.dumps([*chunk.values()])) < 450_000 for chunk in chunks)
    small = [mark_blocks(render_parts(row("日" * 40_000))["message"], f"m{n}", "d") for n in range(5)]
    chunks = list(split_blocks({marker: block for one in small for marker, block in one.items()}))
    assert [len(chunk) for chunk in chunks] == [3, 2]


@pytest.mark.parametrize("kind", ["call.completed", "call.missed", "call.forwarded"])
def test_a_call_that_is_over_has_a_block(kind: str) -> None:
    (toggle,) = render_parts(row(kind="call", type=kind))["call"]
    assert toggle["toggle"]["rich_text"][0]["text"]["content"].startswith("2026-11-20 18:00 UTC · Call")


def test_a_marker_is_found_in_the_block_that_notion_returns() -> None:
    marked = mark_blocks(render_parts(row("hi"))["message"], "shopfleet-1", "abc")
    assert [find_marker(block) for block in marked.values()] == list(marked) == ["shopfleet-1-abc-0"]
    assert find_marker({"type": "paragraph", "paragraph": {"rich_text": []}}) == ""
    assert find_marker({"type": "divider", "divider": {}}) == ""


def test_a_call_in_progress_has_no_block_and_no_digest() -> None:
    for kind in ("call.ringing", "call.answered"):
        assert render_parts(row(kind="call", type=kind)) == {"call": []}
    assert hash_blocks([]) == ""


def test_fields_that_nobody_sees_do_not_change_the_digest() -> None:
    first, second = (
        hash_blocks(render_parts(row("hi", object={"id": "M1", "updatedAt": at}))["message"]) for at in "12"
    )
    assert first == second != hash_blocks(render_parts(row("ho"))["message"])


def test_links_are_links_and_other_addresses_are_not() -> None:
    media = [{"url": "https://storage.example/a.jpg"}, {"url": "javascript:alert(1)"}, {"url": None}]
    (toggle,) = render_parts(row("hi", object={"media": media}))["message"]
    texts = [one["paragraph"]["rich_text"][0]["text"] for one in toggle["toggle"]["children"]]
    assert texts == [
        {"content": "hi"},
        {"content": "https://storage.example/a.jpg", "link": {"url": "https://storage.example/a.jpg"}},
    ]


@pytest.mark.parametrize(
    "address",
    [
        "https://",
        "https://[",
        "https://shop",
        "https://shop.example/a b",
        "https://shop.example/ä",
        "https://a..b",
    ],
)
def test_an_address_that_notion_refuses_as_a_link_is_text(address: str) -> None:
    (toggle,) = render_parts(row(address))["message"]
    assert toggle["toggle"]["children"][0]["paragraph"]["rich_text"][0]["text"] == {"content": address}


def test_addresses_have_one_form() -> None:
    assert normalize_phone(" +1 (555) 000-0002 ") == "+15550000002"
    assert [normalize_phone(one) for one in ("anonymous", "", None, 5, "+", "+1 555 x")] == [""] * 6
    assert normalize_mail("Ada <Ada@Example.com>") == "ada@example.com"
    assert [normalize_mail(one) for one in ("nobody", "a@b", None)] == [""] * 3
    assert normalize_all(["+1 555", "a@b.example", "+1555", None, "x"]) == ["+1555", "a@b.example"]
