"""An edit is a new event with a changed body that points at the original, which stays."""

from fnmatch import fnmatchcase

import pytest
from sqlalchemy import Engine, text

from services.core.db import transaction
from services.core.errors import InputInvalid
from services.ledger.event_edit import (
    MAX_BYTES,
    check_edit,
    find_edit_kind,
    hash_body,
    record_edit,
)
from services.ledger.filters import EventFilter
from services.ledger.replay import ReplayResult, count_replayable, is_readable, replay_events
from services.providers.provider import MONEY, PLAIN, REFUSED
from services.providers.registry import WEBHOOK_PROVIDERS
from tests.ledger.test_replay import LATER
from tests.ledger_rows import NOW, accept, new_event, rows_of

BODY = b'{"id": 9007199254740993,  "email": "ada@exmaple.com", "updated_at": "2026-11-20T11:00:00Z"}'
EDITED = BODY.decode().replace("exmaple", "example")
TOKEN = "0" * 32


def edit(
    event_id: int = 1, edited: str = EDITED, *, opened: bytes = BODY, token: str = TOKEN
) -> ReplayResult:
    with transaction() as tx:
        return record_edit(
            tx, event_id, edited, opened=hash_body(opened), token=token, now=LATER, by="ada", reason="a typo"
        )


def list_events() -> list[dict[str, object]]:
    with transaction() as tx:
        found = tx.execute(text("select * from inbound_events order by id"))
        return [dict(row._mapping) for row in found]


PLANNED = [
    (provider.name, pattern, work)
    for provider in WEBHOOK_PROVIDERS.values()
    for pattern, work in provider.topics
]


@pytest.mark.parametrize(("provider", "topic", "work"), PLANNED)
def test_every_topic_with_work_has_a_kind_of_its_own(provider: str, topic: str, work: str) -> None:
    patterns = " ".join(patterns for _, patterns in WEBHOOK_PROVIDERS[provider].edit_kinds).split()
    assert any(fnmatchcase(topic, pattern) for pattern in patterns), "give the topic a kind in edit_kinds"

    kind = find_edit_kind(provider, topic)
    if work.startswith(("privacy", "uninstall")) or topic.endswith("delete"):
        assert kind == REFUSED
    elif work.startswith(("order", "refund", "tender", "shopify_dispute", "transaction", "event_fetch")):
        assert kind == MONEY
    else:
        assert kind in (MONEY, PLAIN)


@pytest.mark.parametrize(
    "topic",
    ["orders/delete", "products/delete", "customers/redact", "customers/data_request", "shop/redact",
     "app/uninstalled", "inventory_levels/disconnect", "checkouts/create", ""],
)  # fmt: skip
def test_deletions_privacy_and_unknown_topics_are_not_edited(engine: Engine, topic: str) -> None:
    accept(engine, new_event(1, body=BODY, topic=topic))

    with pytest.raises(InputInvalid, match="are not edited"):
        edit()
    assert find_edit_kind("standard:acme", topic) == find_edit_kind("", topic) == REFUSED
    assert len(list_events()) == 1


def test_an_edit_is_a_new_event_with_work_and_the_original_stays(engine: Engine) -> None:
    accept(engine, new_event(1, body=BODY, headers={"x-shopify-topic": "orders/create"}))
    (before,) = list_events()

    edited = edit()

    old, new = list_events()
    assert old == before
    assert edited.event_ids == (new["id"],)
    assert bytes(new["body"]) == EDITED.encode(), "spacing and numbers beyond 2^53 stay"  # type: ignore[call-overload]
    assert (new["origin"], new["replay_of"], new["headers"]) == ("edit", 1, old["headers"])
    assert new["occurred_at"] == NOW, "as old as the original"
    with transaction() as tx:
        first, second = rows_of(tx)
        (entry,) = tx.execute(text("select * from audit_events")).all()
    assert (second["origin"], second["event_id"], second["key"]) == ("edit", 2, first["key"])
    assert (entry.action, entry.shop_id, entry.staff_label) == ("event.edit", 1, "ada")
    assert "event 2, an edit of event 1 that changes $.email: a typo" in entry.mutations
    assert "exmaple" not in entry.mutations


def test_the_same_form_sent_twice_is_one_edit(engine: Engine) -> None:
    accept(engine, new_event(1, body=BODY))
    edit()

    with pytest.raises(InputInvalid, match="recorded already, as event 2"):
        edit()

    assert [event["duplicate_count"] for event in list_events()] == [0, 0]
    assert edit(token="1" * 32).event_ids == (3,) or len(list_events()) == 3


def test_a_replay_of_an_edit_is_an_edit_and_a_filter_without_ids_leaves_both_out(engine: Engine) -> None:
    accept(engine, new_event(1, body=BODY))
    edit()
    with transaction() as tx:
        replay_events(tx, EventFilter(ids=(2,)), now=LATER, by="ada")
        replay_events(tx, EventFilter(ids=(1,)), now=LATER, by="ada")

    found = [(event["origin"], event["replay_of"]) for event in list_events()]
    assert found == [("webhook", None), ("edit", 1), ("edit", 1), ("replay", 1)]
    with transaction() as tx:
        assert count_replayable(tx, EventFilter(shop_id=1)).total() == 1


def test_a_body_that_was_redacted_meanwhile_is_not_restored(engine: Engine) -> None:
    accept(engine, new_event(1, body=b'{"id": 9007199254740993, "email": null}'))

    with pytest.raises(InputInvalid, match="by a redaction"):
        edit()


@pytest.mark.parametrize(
    ("edited", "fault"),
    [
        (BODY.decode(), "changes no value"),
        (BODY.decode().replace(",  ", ",\n"), "changes no value"),
        ("[]", "JSON object"),
        ('{"id": NaN}', "JSON object"),
        ("{", "JSON object"),
        ('{"a": ' * 990 + "1" + "}" * 990, "within each other"),
        ('{"a": "' + "x" * MAX_BYTES + '"}', "at most 400,000"),
        (EDITED.replace("11:00", "11:30"), r"\$.updated_at should stay"),
        (EDITED.replace("}", ', "customer": {"updated_at": "2026-11-20"}}'), r"customer.updated_at"),
        (EDITED.replace("}", ', "lines": [{"id": 1, "created_at": "2030-01-01"}]}'), r"lines.created_at"),
    ],
)  # fmt: skip
def test_an_edit_that_says_nothing_or_too_much_is_refused(engine: Engine, edited: str, fault: str) -> None:
    accept(engine, new_event(1, body=BODY))

    with pytest.raises(InputInvalid, match=fault):
        edit(edited=edited)
    assert len(list_events()) == 1


def test_an_unreadable_body_is_repaired_with_its_own_times(engine: Engine) -> None:
    broken = BODY[:-1]
    accept(engine, new_event(1, body=broken, readable=False))

    for later in ("2026-11-21T11:00:00Z", "2027"):
        with pytest.raises(InputInvalid, match="should stay"):
            edit(edited=EDITED.replace("2026-11-20T11:00:00Z", later), opened=broken)
    edit(opened=broken)

    with transaction() as tx:
        assert [row["status"] for row in rows_of(tx)] == ["dead", "pending"]


TIMES = (
    b'{"id": 1, "updated_at": "2026-11-20", '
    b'"lines": [{"created_at": "2026-01-01"}, {"created_at": "2026-01-02"}]}'
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"updated_at": "2026-11-20", ', ""),
        ('"2026-11-20"', "null"),
        ('"2026-11-20"', '["2026-11-20"]'),
        ('"2026-11-20"', '{"a": "2026-11-20"}'),
        ('{"created_at": "2026-01-01"}, ', ""),
        ('"2026-01-01"}, {"created_at": "2026-01-02"', '"2026-01-02"}, {"created_at": "2026-01-01"'),
    ],
)
def test_each_time_of_the_original_stays_with_its_value(before: str, after: str) -> None:
    edited = TIMES.decode().replace(before, after).replace('"id": 1', '"id": 2')

    with pytest.raises(InputInvalid, match="should stay"):
        check_edit(TIMES, edited)
    assert check_edit(TIMES, TIMES.decode().replace('"id": 1', '"id": 2'))


@pytest.mark.parametrize(
    ("broken", "edited", "is_right"),
    [
        ('{"created_at": "2026" "note": "in 2031"}', '{"created_at": "2026", "updated_at": "2031"}', False),
        ('{"created_at": "2026" "note": "in 2031"}', '{"created_at": "2026"}', True),
        ('{"created_at": "2026" "note": "in 2031"}', "{}", False),
        ('{"created_at": "2026" "x": 1}', '{"created_at": ["2026"]}', False),
        ('{"created_at": "2026, "x": 1}', '{"created_at": "2026"}', True),
        ('{"created": 1700000000 "x": 1}', '{"created": 1700000000}', True),
        ('{"created": 1700000000 "x": 1}', '{"created": 170000000}', False),
        ('{"updated_at": null "x": 1}', '{"updated_at": null}', True),
        ('{"id": 1, "updated_at": "2026-11-2', '{"id": 1}', True),
        ('{"id": 1, "updated_at": "2026-11-2', '{"id": 1, "updated_at": "2026-11-2"}', False),
    ],
)
def test_an_unreadable_original_gives_only_the_times_after_their_names(
    broken: str, edited: str, is_right: bool
) -> None:
    if is_right:
        assert check_edit(broken.encode(), edited)
        return
    with pytest.raises(InputInvalid, match="should stay"):
        check_edit(broken.encode(), edited)


@pytest.mark.parametrize("number", ["1e-9999999999999999999999", "1e9999999999999999999999", "1" * 5000])
def test_a_number_that_cannot_be_compared_is_refused(number: str) -> None:
    strange = f'{{"id": 1, "a": {number}}}'

    with pytest.raises(InputInvalid):
        check_edit(b'{"id": 1}', strange)
    if is_readable(strange.encode()):
        with pytest.raises(InputInvalid, match="too small"):
            check_edit(strange.encode(), '{"id": 1}')
    else:
        assert check_edit(strange.encode(), '{"id": 1}'), "a repair"


def test_changes_are_listed_by_path_with_exact_numbers() -> None:
    old = b'{"id": 9007199254740993, "lines": [{"price": 1.10}, {"price": 2}], "x y": 1, "gone": true}'
    new = '{"id": 9007199254740992, "lines": [{"price": 1.1}], "x y": "1", "added": {"a": 1.5}}'

    assert [tuple(one) for one in check_edit(old, new)] == [
        ("$.id", "9007199254740993", "9007199254740992"),
        ("$.lines[0].price", "1.10", "1.1"),
        ("$.lines[1]", '{"price": 2}', ""),
        ('$["x y"]', "1", '"1"'),
        ("$.gone", "true", ""),
        ("$.added", "", '{"a": 1.5}'),
    ]
