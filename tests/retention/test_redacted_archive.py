"""A redaction destroys the keys of the customer: archived events are unreadable and still verifiable."""

import gzip

import orjson
import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, text

from services.cli.events import command as events_command
from services.core.crypto import get_sealer
from services.core.db import transaction
from services.core.errors import Misconfigured
from services.core.settings import get_settings
from services.ledger.event_archive import list_archives, read_object
from services.ledger.filters import EventFilter
from services.privacy.customer_redaction import PrivacyRedactHandler
from services.privacy.persons import find_named
from services.privacy.text_data import REDACTED_HEADER
from services.providers.object_store import FolderStore, open_store
from services.retention.verify import verify_archives
from tests.ledger_rows import accept, new_event
from tests.privacy.customers import JANES, JOHN, JOHN_TOLD, JOHNS, find_words, request_privacy
from tests.retention.old_rows import make_old, read_all, run_job, select_all

JANES_EVENTS = {2, 5}
JOHNS_EVENTS = {1, 3, 4, 6, 7, 8, 9, 10, 11, 12}
"""Numbers of the events in ``history``."""


def read_numbers(engine: Engine) -> tuple[set[int], set[int]]:
    """Return the numbers of the archived events that can be read, and of the others."""
    store, numbers = open_store(get_settings().archive_url), {}
    with transaction(engine) as tx:
        archives = list_archives(tx, EventFilter(shop_id=1))
    for archive in archives:
        for line in read_object(store, archive):
            numbers[line["id"]] = int(line["delivery_key"].rpartition("-")[2])
    events, sealed = read_all(engine)
    return {numbers[one] for one in events}, {numbers[one] for one in sealed}


def find_id(engine: Engine, number: int) -> str:
    """Return the id of the archived event ``number``."""
    return next(
        str(one.id) for one in read_all(engine)[0].values() if one.delivery_key == f"delivery-{number}"
    )


def stored_text(archive: FolderStore) -> str:
    return "\n".join(gzip.decompress(archive.get(key)).decode() for key in archive.find_keys("ledger/"))


@pytest.fixture
def archived(shop: Engine, archive: FolderStore) -> Engine:
    """The shop with all its finished events archived."""
    make_old(shop)
    run_job(shop)
    return shop


def test_the_archive_contains_no_word_of_a_customer_in_the_clear(
    archived: Engine, archive: FolderStore
) -> None:
    # Three letters may be in any base64 text.
    words = tuple(word for word in (*JOHNS, *JANES) if len(word) > 5)

    assert find_words(stored_text(archive), words) == set()


def test_a_redaction_makes_every_event_of_the_customer_unreadable_and_no_other(
    archived: Engine, archive: FolderStore
) -> None:
    before = stored_text(archive)
    assert read_numbers(archived) == (JANES_EVENTS | JOHNS_EVENTS, set())

    request_privacy(archived, "customers/redact", 700)

    assert read_numbers(archived) == (JANES_EVENTS, JOHNS_EVENTS)
    assert stored_text(archive) == before
    (verified,) = verify_archives(transaction, archive, None)
    assert (verified.readable, verified.destroyed, verified.fault) == (2, 10, "")


def test_no_key_of_the_customer_is_left_in_the_database(archived: Engine) -> None:
    request_privacy(archived, "customers/redact", 700)

    keys = select_all(
        archived, "select (secret is null), (subject is null), destroyed_at is null from archive_keys"
    )
    assert {(True, True, False), (False, False, True)} == set(keys)


def test_a_replay_of_a_redacted_event_says_why_it_is_not_possible(archived: Engine) -> None:
    johns, janes = find_id(archived, 3), find_id(archived, 5)
    request_privacy(archived, "customers/redact", 700)

    result = CliRunner().invoke(events_command, ["replay", johns, janes, "-f"])

    assert result.exit_code == 1
    assert "1 event replayed" in result.output
    assert f"event {johns} is archived and cannot be read: its key was destroyed at" in result.output
    assert "by the redaction of a customer" in result.output


def test_commands_show_and_replay_an_archived_event(archived: Engine) -> None:
    event = find_id(archived, 3)
    shown = CliRunner().invoke(events_command, ["show", event, "--json"])
    raw = CliRunner().invoke(events_command, ["show", event, "--raw"])
    replayed = CliRunner().invoke(events_command, ["replay", event, "-f"])
    unknown = CliRunner().invoke(events_command, ["show", "4711"])
    listed = CliRunner().invoke(events_command, ["list", "--since", "200d"])

    assert orjson.loads(shown.output)["body"]["customer"]["email"] == "john@example.com"
    assert orjson.loads(raw.output)["customer"]["id"] == JOHN
    assert "1 event replayed, work planned: 1" in replayed.output
    assert (unknown.exit_code, "4711" in unknown.output) == (2, True)
    assert "are archived: `fleet events show ID`" in listed.output


def test_the_export_of_a_customer_contains_their_archived_events(
    archived: Engine, archive: FolderStore
) -> None:
    request_privacy(archived, "customers/data_request", 701)

    (key,) = archive.find_keys("privacy/")
    document = orjson.loads(archive.get(key))
    (place,) = [one for one in document["kept"] if one["where"].startswith("archived events")]
    assert len(place["rows"]) == len(JOHNS_EVENTS)
    assert find_words(orjson.dumps(place).decode(), JANES) == set()


def test_the_erasure_of_a_shop_destroys_all_its_keys(archived: Engine, archive: FolderStore) -> None:
    request_privacy(archived, "shop/redact", 702, PrivacyRedactHandler(check=lambda shop_id: True))

    assert read_numbers(archived) == (set(), JANES_EVENTS | JOHNS_EVENTS)
    assert select_all(archived, "select count(*) from archive_keys where secret is not null") == [0]
    assert [one.fault for one in verify_archives(transaction, archive, None)] == [""]


def test_an_event_that_arrives_after_the_redaction_is_archived_without_the_person(archived: Engine) -> None:
    request_privacy(archived, "customers/redact", 700)
    (late,) = accept(
        archived, new_event(800, topic="nobody/planned", body=orjson.dumps({"customer": JOHN_TOLD}))
    )
    make_old(archived, f"id = {late.event_id}")

    run_job(archived)

    event = read_all(archived, ids=(late.event_id,))[0][late.event_id]
    assert find_words(event.body.decode(), JOHNS) == set()
    assert orjson.loads(event.body)["customer"]["id"] == JOHN
    assert REDACTED_HEADER in event.headers


def test_an_event_that_was_redacted_before_it_is_archived_stays_readable(shop: Engine) -> None:
    request_privacy(shop, "customers/redact", 700)
    make_old(shop)

    run_job(shop)

    assert read_numbers(shop)[1] == set()
    bodies = [one.body.decode() for one in read_all(shop)[0].values()]
    assert [body for body in bodies if find_words(body, JOHNS)] == []


def test_keys_are_sealed_again_after_a_rotation_of_the_secret_key(
    archived: Engine, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def use_keys(current: str, previous: str) -> None:
        monkeypatch.setenv("SECRET_KEY", current)
        monkeypatch.setenv("SECRET_KEY_PREVIOUS", previous)
        get_settings.cache_clear()
        get_sealer.cache_clear()

    new = "rotated-" + "n" * 32
    use_keys(new, environment["SECRET_KEY"])
    assert run_job(archived)["keys_sealed_again"] == 1
    use_keys("rotated-again-" + "m" * 32, new)

    assert read_numbers(archived) == (JANES_EVENTS | JOHNS_EVENTS, set())
    use_keys("wrong-" + "w" * 32, "")
    with pytest.raises(Misconfigured, match="SECRET_KEY_PREVIOUS") as caught:
        run_job(archived)
    assert caught.value.code == "retention.key_sealed"
    monkeypatch.undo()
    get_settings.cache_clear()
    get_sealer.cache_clear()


@pytest.mark.parametrize("change", ["altered", "gone"])
def test_an_altered_or_missing_object_is_found(archived: Engine, archive: FolderStore, change: str) -> None:
    (key,) = archive.find_keys("ledger/")
    data = archive.get(key)
    archive.delete(key)
    if change == "altered":
        archive.put(key, gzip.compress(gzip.decompress(data).replace(b"orders/create", b"orders/delete")))

    (verified,) = verify_archives(transaction, archive, None)

    assert ("SHA-256" if change == "altered" else "is gone from") in verified.fault
    assert "restore it from a backup or an older version in the store" in verified.fault


def test_a_row_of_the_index_that_differs_from_the_audit_chain_is_found(
    archived: Engine, archive: FolderStore
) -> None:
    with transaction(archived) as tx:
        tx.execute(text("update event_archives set object_sha256 = repeat('0', 64)"))

    (verified,) = verify_archives(transaction, archive, None)

    assert "the audit chain has the SHA-256" in verified.fault


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"customer": {"id": 5, "email": "Ada@Example.com"}}, ({"5"}, {"ada@example.com"}, set())),
        ({"admin_graphql_api_id": "gid://shopify/Customer/7"}, ({"7"}, set(), set())),
        ({"note": "call +1 (555) 625-1199 or mail a@b.example"}, (set(), {"a@b.example"}, {"5556251199"})),
        ({"shipping_address": {"phone": "555 625 1199"}}, (set(), set(), {"5556251199"})),
        ({"data": {"object": {"from": "+15556251199"}}}, (set(), set(), {"5556251199"})),
        ({"id": 820982911946154508, "created_at": "2026-11-20T12:00:00Z", "token": "12345678901"},
         (set(), set(), set())),
    ],
)  # fmt: skip
def test_the_persons_of_a_body(body: object, expected: tuple[set[str], ...]) -> None:
    named = find_named(orjson.dumps(body), "nobody/planned")

    assert (named.customers, named.emails, named.phones) == expected


@pytest.mark.parametrize(
    ("body", "customers"),
    [
        (b'{"customer": {"id": 5}, "note": "a@b.example", "torn": "\\ud83d"}', {"5"}),
        (b'{"email": "a@b.example", "name": "Ada', set()),
        (b'{"note": "a@b.example", "deep": ' + b"[" * 1000 + b"]" * 1000 + b"}", set()),
    ],
    ids=["half a surrogate pair", "not JSON", "deep"],
)
def test_an_odd_body_names_its_persons_too(body: bytes, customers: set[str]) -> None:
    named = find_named(body, "nobody/planned")

    assert (named.customers, named.emails) == (customers, {"a@b.example"})


def test_orders_and_payments_name_their_customer(archived: Engine) -> None:
    accept(archived, new_event(810, topic="nobody/planned", body=b'{"order_id": 299938}'))
    accept(archived, new_event(811, provider="stripe", topic="no/handler", body=b'{"id": "ch_0000000001"}'))
    make_old(archived, "delivery_key in ('delivery-810', 'delivery-811')")
    run_job(archived)

    request_privacy(archived, "customers/redact", 700)

    assert {one.why.partition(" at ")[0] for one in read_all(archived)[1].values()} == {
        "its key was destroyed"
    }
    assert read_numbers(archived) == (JANES_EVENTS, JOHNS_EVENTS | {810, 811})
