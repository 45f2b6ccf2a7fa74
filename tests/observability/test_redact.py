"""What may leave the process and what may not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.redact import HIDDEN, redact, redact_text

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
    said = redact_text(f"the call with {secret}, failed")

    assert secret not in said
    assert said.startswith("the call with ")
    assert said.endswith(", failed")


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
def test_a_secret_name_hides_whatever_it_holds(name: str) -> None:
    assert redact({name: "plain"}) == {name: HIDDEN}
    assert redact({"outer": [{name: {"inner": "plain"}}]}) == {"outer": [{name: HIDDEN}]}


def test_a_count_is_not_a_secret_whatever_its_name() -> None:
    assert redact({"tokens_left": 40.5, "has_secret": True, "token": None, "password": ""}) == {
        "tokens_left": 40.5,
        "has_secret": True,
        "token": None,
        "password": "",
    }


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:pw@host:6379/0", f"redis://{HIDDEN}@host:6379/0"),
        ("postgresql://app:p%40w@db/fleet", f"postgresql://{HIDDEN}@db/fleet"),
        ("https://shop.example/orders/1", "https://shop.example/orders/1"),
        ("re_connect and secret_name stay", "re_connect and secret_name stay"),
    ],
)
def test_an_address_keeps_all_but_its_login(url: str, said: str) -> None:
    assert redact_text(url) == said


@pytest.mark.parametrize(
    ("said_by_database", "left"),
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
def test_values_quoted_by_the_database_are_cut_out(said_by_database: str, left: str) -> None:
    assert redact_text(said_by_database) == left


def test_bytes_are_somebodys_body() -> None:
    assert redact({"body": b"{}", "deep": [b"x"]}) == {"body": HIDDEN, "deep": [HIDDEN]}


def test_what_refers_to_itself_comes_to_an_end() -> None:
    loop: dict[str, object] = {}
    loop["again"] = loop

    assert HIDDEN in str(redact(loop))


@given(JSON)
def test_any_value_can_be_redacted_and_redacting_twice_changes_nothing(value: object) -> None:
    once = redact(value)

    assert redact(once) == once
