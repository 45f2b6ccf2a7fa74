"""Personal data in a body is found in every spelling and removed; other data stays."""

import json
import re
from typing import Any
from unicodedata import normalize

import pytest
from sqlalchemy import Connection

from services.privacy.body_redaction import (
    STAFF_ATTRIBUTES,
    blank_personal_fields,
    concerns_subject,
    contains_subject,
    hide_text,
    normalize_email,
    normalize_phone,
)
from services.privacy.persons import find_named
from services.privacy.search_pattern import search_pattern
from services.privacy.subject import DataSubject
from services.shopify.orders.line_payload import STAFF_NAMES

JOSE = DataSubject(
    shop_id=1,
    customer_id=191167,
    emails=frozenset({"josé+x@example.com"}),
    phones=frozenset({"5556251199"}),
    names=frozenset({"José O'Brien"}),
    order_gids=frozenset({"gid://shopify/Order/299938"}),
    payment_refs=frozenset({"ch_00000001"}),
)
WRITTEN = (
    '{"a": "josé+x@example.com"}', '{"a": "JOSé+X@EXAMPLE.com"}', '{"a": "jos\\u00e9+x@example.com"}',
    '{"a": "+1 (555) 625-1199"}', '{"a": "5556251199"}', '{"a": "+15556251199"}', '{"a": "555.625.1199"}',
    '{"order_id": 299938}', '{"order_id": "299938"}', '{"order": {"id": 299938}}',
    '{"customer": {"id": 191167}}',
    '{"admin_graphql_api_id": "gid://shopify/Order/299938"}', '{"a": ["gid://shopify/Customer/191167"]}',
    '{"data": {"object": {"charge": "ch_00000001"}}}',
)  # fmt: skip
OTHERS = (
    '{"a": "anjosé+x@example.com"}', '{"a": "josé+x@example.com.au"}', '{"a": "15556251199987"}',
    '{"order_id": 2999380}', '{"quantity": 191167}', '{"a": "gid://shopify/Order/2999381"}',
    '{"a": "gid://shopify/Product/299938"}', '{"customer": {"id": 1911670}}', '{"a": "Jose"}',
)  # fmt: skip


@pytest.mark.parametrize("body", WRITTEN)
def test_the_database_and_we_find_the_subject_however_it_is_written(tx: Connection, body: str) -> None:
    assert concerns_subject(json.loads(body), JOSE)
    assert scanned(tx, body.encode())


@pytest.mark.parametrize("body", OTHERS)
def test_others_are_not_the_subject(body: str) -> None:
    assert not concerns_subject(json.loads(body), JOSE)


@pytest.mark.parametrize(
    "text", ["José O'Brien", "jos\\u00e9 o'brien", "JOSé O&#39;BRIEN", "a josé+x@example.com b"]
)
def test_the_database_finds_names_in_texts(tx: Connection, text: str) -> None:
    assert scanned(tx, text.encode())


@pytest.mark.parametrize(
    "name",
    [
        *("Élodie Müller", "Zoë Ågren", "Иван Петров", "Σας Χρήστου", "İpek Ipık", "Kay Ross", "😀 Smith"),
        *('Bob "B" O\'Brien', "a^b [x]\\y", "Tom & Ann/Lee", "Ǆ Ǳ", "𐐀 deseret"),
        *("Nguyễn Thị Ệ", "김 민수", "x\u030c y\u0323\u0302", "神田 福", "Ωmega Άλφα", "चोपड़ा", "がく ぽ"),
    ],
)
def test_the_database_finds_every_text_that_names_the_subject(tx: Connection, name: str) -> None:
    subject = DataSubject(shop_id=1, names=frozenset({name}))
    changes = (str, str.upper, str.lower, str.title, str.swapcase, lambda text: text.replace("i", "İ"),
               lambda text: text.replace("k", "\u212a").replace("s", "\u017f"))  # fmt: skip
    changed = {f"to {change(name)}." for change in changes}
    for text in {spelling for one in changed for spelling in list_spellings(one)}:
        if contains_subject(text, subject):
            rails = json.dumps(text).replace("&", "\\u0026").replace("/", "\\/")
            for written in (text, json.dumps(text, ensure_ascii=False), json.dumps(text), rails):
                assert scanned(tx, written.encode(), subject), written
    assert not scanned(tx, b"to somebody else", subject)


def list_spellings(text: str) -> set[str]:
    """Return ``text`` composed, decomposed, with its marks in another order, and with singletons."""
    decomposed = normalize("NFD", text)
    turned = re.sub("[\u0300-\u036f]{2,}", lambda marks: marks[0][::-1], decomposed)
    singletons = text.translate({0xC5: 0x212B, 0x3A9: 0x2126, 0x795E: 0xFA19, 0x798F: 0xFA1B})
    singletons = singletons.replace("ड़", "ड़")
    found = {text, normalize("NFC", text), decomposed, turned, singletons}
    return {one for one in found if normalize("NFC", one) == normalize("NFC", text)}


@pytest.mark.parametrize(
    "name", ["José Núñez", "Nguyễn Thị Ệ", "김 민수", "Zoë Ågren", "神田 福", "が ぽん", "चोपड़ा"]
)
def test_every_equivalent_spelling_names_the_subject(tx: Connection, name: str) -> None:
    addresses = list_spellings(f"{name[0]}é@x.io")
    emails = frozenset(map(normalize_email, addresses))
    assert len(emails) == 1
    for stored in list_spellings(name):
        subject = DataSubject(shop_id=1, names=frozenset({stored}), emails=emails)
        for spelling in list_spellings(name):
            assert hide_text(f"to {spelling}, again", subject) == "to [redacted], again"
            assert scanned(tx, spelling.encode(), subject)
        for address in addresses:
            assert concerns_subject({"a": address.upper()}, subject)
            assert find_named(json.dumps({"a": address}).encode(), "x").emails == emails
            assert scanned(tx, json.dumps(address.upper()).encode(), subject)


def test_a_text_that_does_not_name_the_subject_keeps_its_bytes() -> None:
    text = normalize("NFD", "Zoë Ågren, Jose\u0301 and O'Brien")

    assert hide_text(text, JOSE) == text
    assert not contains_subject(
        normalize("NFD", "Smith José"), DataSubject(shop_id=1, names=frozenset({"Smith Jose"}))
    )


def test_bytes_that_are_no_text_are_searched_all_the_same(tx: Connection) -> None:
    assert scanned(tx, b"\0\xff\xfe 5556251199 \\")
    assert not scanned(tx, b"\0\xff\xfe\\")


@pytest.mark.parametrize(
    "odd", ["a.b*c@x.io", "a[b]^c@x.io", "a\\b@x.io", "a|b@x.io", "(a)@x.io", '"a"@x.io']
)
def test_address_with_wildcards_matches_only_itself(tx: Connection, odd: str) -> None:
    subject = DataSubject(shop_id=1, emails=frozenset({odd}))

    assert scanned(tx, f"<{odd}>".encode(), subject)
    assert not scanned(tx, b"<abc@x.io> <aXbbc@x.io>", subject)
    assert hide_text(f"<{odd}>", subject) == "<[redacted]>"


def test_addresses_numbers_and_names_are_removed_from_texts() -> None:
    written = "José O'Brien (JOSÉ+X@example.com, +1 555-625-1199) and José O&#39;Brien; Joséphine stays"

    assert hide_text(written, JOSE) == "[redacted] ([redacted], [redacted]) and [redacted]; Joséphine stays"
    assert contains_subject(written, JOSE)
    assert not contains_subject("José Brien, 555-625-11990", JOSE)


def test_ids_money_skus_and_times_stay_and_personal_data_is_removed() -> None:
    body: dict[str, Any] = {
        "id": 2**70,
        "name": "#1001",
        "total_price": "12.50",
        "updated_at": "2026-11-20T12:00:00-08:00",
        "customer": {"id": 1, "name": "J", "email": "j@x.io"},
        "tags": "vip",
        "line_items": [
            {
                "sku": "MUG",
                "name": "A mug",
                "title": "Mug of José O'Brien",
                "properties": [{"name": "Text", "value": "J"}, {"name": " Served By ", "value": "Ada"}],
            }
        ],
        "metadata": {"order_id": "1001", "gift": "for J"},
        "shipping_lines": [{"phone": "1", "price": "5.00"}],
    }

    left = blank_personal_fields(body, JOSE)

    assert left == {
        "id": 2**70,
        "name": "#1001",
        "total_price": "12.50",
        "updated_at": "2026-11-20T12:00:00-08:00",
        "customer": {"id": 1, "name": None, "email": None},
        "tags": None,
        "line_items": [
            {
                "sku": "MUG",
                "name": "A mug",
                "title": "Mug of [redacted]",
                "properties": [{"name": "Text", "value": None}, {"name": " Served By ", "value": "Ada"}],
            }
        ],
        "metadata": {"order_id": "1001", "gift": None},
        "shipping_lines": [{"phone": None, "price": "5.00"}],
    }
    assert blank_personal_fields(left, JOSE) == left


def test_what_staff_did_is_read_from_the_attributes_that_stay() -> None:
    assert STAFF_ATTRIBUTES == STAFF_NAMES


def test_numbers_and_addresses_have_one_form() -> None:
    assert normalize_phone("+1 (555) 625-1199") == normalize_phone("555-625-1199") == "5556251199"
    assert (normalize_phone("12345"), normalize_phone(None)) == ("", "")
    assert (normalize_email(" John@Example.COM "), normalize_email("john"), normalize_email(7)) == (
        "john@example.com", "", "",
    )  # fmt: skip


def test_an_address_with_a_letter_that_has_no_capital_is_found() -> None:
    subject = DataSubject(shop_id=1, emails=frozenset({normalize_email("Straße@X.io")}))

    assert concerns_subject({"a": "straße@x.io"}, subject)
    assert concerns_subject({"a": "STRAßE@X.IO"}, subject)


def test_repr_of_a_subject_hides_its_data() -> None:
    shown = repr(JOSE)

    assert "191167" in shown
    assert not contains_subject(shown, JOSE)


def scanned(tx: Connection, data: bytes, subject: DataSubject = JOSE) -> bool:
    pattern = search_pattern(subject, with_ids=True)
    statement = "select encode(%(data)s::bytea, 'escape') collate \"C\" ~* %(pattern)s"
    return bool(tx.exec_driver_sql(statement, {"data": data, "pattern": pattern}).scalar())
