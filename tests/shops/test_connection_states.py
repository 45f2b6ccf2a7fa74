"""State of a connection after batches of calls."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, text

from services.core.errors import Misconfigured, Refused, RetryLater, WorkError
from services.providers.call_outcomes import CallOutcomes, collect_calls, noted_call, optional_calls
from services.shops.connections import record_provider_calls

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
OK = None
WHOLE = Misconfigured("stripe.key_refused", "HTTP 401")
PARTIAL = Misconfigured("stripe.key_refused", "HTTP 403", is_partial=True)

SETS: list[tuple[str, list[list[tuple[str, Misconfigured | None]]], tuple[str, str]]] = [
    ("an answer", [[("charges", OK)]], ("ok", "")),
    ("a refusal", [[("charges", WHOLE)]], ("broken", "")),
    ("an answer to anything ends a refusal", [[("charges", WHOLE)], [("payouts", OK)]], ("ok", "")),
    ("the last of a set counts", [[("charges", OK), ("charges", WHOLE)]], ("broken", "")),
    ("the last of a set counts, again", [[("charges", WHOLE), ("payouts", OK)]], ("ok", "")),
    ("a missing permission", [[("charges", OK), ("payouts", PARTIAL)]], ("broken", "payouts")),
    ("others do not give it", [[("payouts", PARTIAL)], [("charges", OK)]], ("broken", "payouts")),
    (
        "nor does a new one take its place",
        [[("payouts", PARTIAL)], [("events", PARTIAL)]],
        ("broken", "payouts"),
    ),
    ("it ends with an answer about it", [[("payouts", PARTIAL)], [("payouts", OK)]], ("ok", "")),
    (
        "and another may follow",
        [[("payouts", PARTIAL)], [("payouts", OK), ("events", PARTIAL)]],
        ("broken", "events"),
    ),
    ("a refused key is more", [[("payouts", PARTIAL)], [("charges", WHOLE)]], ("broken", "")),
    ("a key that lacks a permission is a good key", [[("a", WHOLE)], [("b", PARTIAL)]], ("broken", "b")),
]


@pytest.mark.parametrize(("sets", "state"), [case[1:] for case in SETS], ids=[case[0] for case in SETS])
def test_a_connection_is_as_the_newest_calls_found_it(
    tx: Connection, sets: list[list[tuple[str, Misconfigured | None]]], state: tuple[str, str]
) -> None:
    tx.execute(text("insert into shops (slug, name, timezone, currency) values ('west', 'W', 'UTC', 'CAD')"))
    shop_id = tx.scalar(text("select id from shops"))
    assert isinstance(shop_id, int)
    for number, notes in enumerate(sets):
        calls = CallOutcomes()
        for resource, fault in notes:
            calls.note("stripe", resource, fault)
        record_provider_calls(tx, [(shop_id, calls)], NOW + timedelta(minutes=number))
    assert tuple(tx.execute(text("select status, resource from connections")).one()) == state


def test_a_resource_that_is_refused_for_another_reason_has_the_newest_reason(tx: Connection) -> None:
    tx.execute(text("insert into shops (slug, name, timezone, currency) values ('west', 'W', 'UTC', 'CAD')"))
    shop_id = tx.scalar(text("select id from shops"))
    assert isinstance(shop_id, int)
    found = []
    other = Misconfigured("stripe.other", "", is_partial=True)
    for faults in ({"payouts": PARTIAL}, {"payouts": other, "events": PARTIAL}):
        calls = CallOutcomes()
        for resource, fault in faults.items():
            calls.note("stripe", resource, fault)
        record_provider_calls(tx, [(shop_id, calls)], NOW)
        found.append(tuple(tx.execute(text("select code, resource from connections")).one()))
    assert found == [("stripe.key_refused", "payouts"), ("stripe.other", "payouts")]


@pytest.mark.parametrize(
    ("fault", "notes"),
    [
        (None, [("stripe", "charges", None)]),
        (WHOLE, [("stripe", "", WHOLE)]),
        (PARTIAL, [("stripe", "charges", PARTIAL)]),
        (Refused("stripe.not_found"), [("stripe", "charges", None)]),
        (RetryLater("stripe.unavailable"), []),
        (ValueError("a bug"), []),
    ],
)
def test_a_call_is_noted_by_what_it_says_of_the_credential(
    fault: Exception | None, notes: list[tuple[str, str, WorkError | None]]
) -> None:
    with collect_calls() as calls:
        try:
            with noted_call("stripe", "charges"):
                if fault:
                    raise fault
        except Exception as raised:  # noqa: BLE001 - any error
            assert raised is fault
    assert [(*key, found) for key, found in calls.items()] == notes


def test_an_optional_call_may_lack_its_permission_and_not_its_credential() -> None:
    for fault, noted in ((PARTIAL, 0), (WHOLE, 1)):
        with (
            collect_calls() as calls,
            pytest.raises(Misconfigured),
            optional_calls(),
            noted_call("stripe", "charges"),
        ):
            raise fault
        assert len(calls) == noted
