"""Redaction of texts and values that leave the process."""

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.fields import Unreadable, read_object
from services.core.log_redaction import HIDDEN, LONGEST_QUOTE, quote_value, redact, redact_text
from services.core.money import MoneyInvalid, to_minor
from services.providers.outgoing_mail import AddressInvalid, ascii_address

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize(
    "secret",
    [
        "whsec_c2VjcmV0LW9mLWFkYQ==",
        "sk_live_51NvExample",
        "rk_test_51NvExample",
        "shpat_0123456789abcdef",
        "xoxb-1234-5678-abcdef",
        "SG.abcdef.ghijkl",
        "Bearer abcdef.ghijkl",
        "re_AbCdEf12_0123456789abcdef",
        "secret_0123456789abcdefghijABCDEFGHIJ0123",
    ],
)
def test_a_credential_is_cut_out_of_any_sentence(secret: str) -> None:
    redacted = redact_text(f"the call with {secret}, failed")

    assert secret not in redacted
    assert redacted.startswith("the call with ")
    assert redacted.endswith(", failed")


@pytest.mark.parametrize(
    "name",
    [
        "webhook_secret",
        "X-Shopify-Access-Token",
        "Authorization",
        "SENTRY_DSN",
        "Stripe-Signature",
        "api_key",
    ],
)
def test_secret_name_hides_its_value(name: str) -> None:
    assert redact({name: "plain"}) == {name: HIDDEN}
    assert redact({"outer": [{name: {"inner": "plain"}}]}) == {"outer": [{name: HIDDEN}]}


def test_count_is_not_a_secret_under_any_name() -> None:
    assert redact({"tokens_left": 40.5, "has_secret": True, "token": None, "password": ""}) == {
        "tokens_left": 40.5,
        "has_secret": True,
        "token": None,
        "password": "",
    }


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("redis://:pw@host:6379/0", f"redis://{HIDDEN}@host:6379/0"),
        ("postgresql://app:p%40w@db/fleet", f"postgresql://{HIDDEN}@db/fleet"),
        ("https://shop.example/orders/1", "https://shop.example/orders/1"),
        ("re_connect and secret_name stay", "re_connect and secret_name stay"),
        ("to jose\u0301@cafe\u0301.example", "to [email]"),
    ],
)
def test_an_address_keeps_all_but_its_login(url: str, redacted: str) -> None:
    assert redact_text(url) == redacted


@pytest.mark.parametrize(
    ("error_text", "left"),
    [
        (
            "[SQL: insert]\n[parameters: {'a': '(Ada]\\n'}]\n(Background on this error at: x)",
            f"[SQL: insert]\n[parameters: {HIDDEN}\n(Background on this error at: x)",
        ),
        (
            "DETAIL:  Failing row contains (1, Ada).\nB).\n[SQL: insert]",
            f"DETAIL:  Failing row contains {HIDDEN}\n[SQL: insert]",
        ),
        ("Key (email)=(ada@example.com) already exists.", f"Key (email)={HIDDEN} already exists."),
    ],
)
def test_values_quoted_by_the_database_are_cut_out(error_text: str, left: str) -> None:
    assert redact_text(error_text) == left


def test_bytes_are_redacted() -> None:
    assert redact({"body": b"{}", "deep": [b"x"]}) == {"body": HIDDEN, "deep": [HIDDEN]}


def test_recursive_value_is_redacted() -> None:
    loop: dict[str, object] = {}
    loop["again"] = loop

    assert HIDDEN in str(redact(loop))


@given(JSON)
def test_any_value_can_be_redacted_and_redacting_twice_changes_nothing(value: object) -> None:
    once = redact(value)

    assert redact(once) == once


PERSONAL = (
    "ada.lovelace+shop@mail.example.com",
    "+1 (604) 555-0199",
    "604-555-0199",
    "+4915112345678",
    "%2B16045550199",
    "ada%40example.com",
)


@pytest.mark.parametrize("value", PERSONAL)
def test_an_address_and_a_phone_number_are_cut_out_of_any_sentence(value: str) -> None:
    redacted = redact_text(f"could not read {value}, so it waits")

    assert value not in redacted
    assert redacted.startswith("could not read [")
    assert redacted.endswith(", so it waits")


@pytest.mark.parametrize(
    "text",
    [
        "order 5123456789012 of shop 7",
        "2026-11-20T10:00:00.123456-08:00",
        "10.0.192.168:5432, 120 ms",
        "gid://shopify/Order/5123456789012",
        "8d2f1c9e-1234-4567-8901-0123456789ab",
    ],
)
def test_ids_times_and_hosts_stay(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(
    "secret",
    [
        *PERSONAL,
        "6045550199",
        "shpat_0123456789abcdef",
        "4111 1111 1111 1111",
        "4111111111111111",
        "ghp_0123456789abcdefghij",
        "AKIA0123456789ABCDEF",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
        "ada%40example.net",
    ],
)
@pytest.mark.parametrize("before", [0, 1, 40, 60, 64, 4000, 4090])
def test_a_quoted_value_is_short_and_holds_nothing_personal(secret: str, before: int) -> None:
    quoted = quote_value(" ".join("x" * (before // 2)) + f" {secret} " + "y" * 5_000_000)

    assert len(quoted) <= LONGEST_QUOTE + 2
    assert all(secret[:size] not in quoted for size in range(8, len(secret) + 1))


@pytest.mark.parametrize(
    ("value", "name", "quoted"),
    [
        ("2026-13-01", "updated_at", "'2026-13-01'"),
        (5123456789012, "id", "5123456789012"),
        (None, "email", "None"),
        ("Ada", "customer.first_name", HIDDEN),
        (6045550199, "phone", HIDDEN),
        ({"email": "ada@example.com"}, "customer", "an object of 1 field"),
        (["Ada"], "line_items", "a list of 1"),
        (b'{"email": "ada@exam', "the body", "19 bytes"),
    ],
)
def test_a_value_is_quoted_by_what_it_is_and_by_its_fields_name(
    value: object, name: str, quoted: str
) -> None:
    assert quote_value(value, name) == quoted


def test_every_error_about_a_value_quotes_it_short_and_clean() -> None:
    value = "ada@example.com " + "1" * 100_000
    raised: list[BaseException] = [Unreadable("line_items[2].title", value, "text")]
    for attempt in (
        lambda: to_minor(value, "CAD"),
        lambda: to_minor("1.00", value),
        lambda: ascii_address(value),
        lambda: read_object(value.encode()),
    ):
        with pytest.raises((MoneyInvalid, AddressInvalid, Unreadable)) as caught:
            attempt()
        raised.append(caught.value)

    assert [len(str(fault)) < 250 and "ada" not in str(fault) for fault in raised] == [True] * 5


OF_SETTINGS = {
    "mail/transports.py",
    "providers/graph_mail.py",
    "providers/http.py",
    "providers/mail_file.py",
}
"""Errors that quote a setting, because a person must correct it."""

ERRORS = {
    "AddressInvalid", "Bug", "Deferred", "Misconfigured", "MoneyInvalid", "OutcomeUnknown", "Refused",
    "RetryLater", "Unreadable", "WebhookRejected",
}  # fmt: skip


def test_no_outcome_of_work_quotes_a_value_as_it_came() -> None:
    services = Path(__file__).parents[2] / "services"
    raw: set[str] = set()
    for path in services.rglob("*.py"):
        text = path.read_text()
        for call in ast.walk(ast.parse(text)) if "!r}" in text else ():
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") in ERRORS:
                shown = [node for node in ast.walk(call) if isinstance(node, ast.FormattedValue)]
                if any(node.conversion == ord("r") for node in shown):
                    raw.add(str(path.relative_to(services)))
    assert raw == OF_SETTINGS
