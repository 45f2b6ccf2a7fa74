"""Job ``owner-letter``: every owner gets a letter each week; a person may change, mail or hold it before."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, text

from services.alerts.incidents import Incident, Recovery, record_incidents, resolve_incidents
from services.alerts.people import add_note, resolve_by_person
from services.cli.main import main
from services.closing.letter_draft import CLOSING, MOST_INCIDENTS, Problem, WeekRecord, write_letter
from services.closing.letter_job import draft_owner_letter, plan_send_time, send_letters
from services.closing.letters import add_planned
from services.core.db import transaction
from services.jobs.definition import Covers
from services.jobs.handler import JobRun
from services.ledger.accept import record_work
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.topics import TOPICS
from services.shops.shops import set_shop
from tests.closing.test_digest import sell
from tests.shopify.sample_payloads import add_shop, rows

ZONE = ZoneInfo("America/Los_Angeles")
MONDAY = date(2026, 11, 16)
DRAFTED = datetime(2026, 11, 23, 8, 0, tzinfo=ZONE)
TUESDAY = datetime(2026, 11, 24, 10, 0, tzinfo=ZONE)
LATER = datetime(2090, 1, 1, tzinfo=UTC)  # after the real time, at which commands write
LETTERS = "select week, status, reason from owner_letters order by id"
MAILS = "select recipient, period from mail_outbox where kind = 'owner_letter' order by id"


@pytest.fixture
def shop(engine: Engine) -> Iterator[Engine]:
    """A shop with an owner address; its letters are drafted on Monday 23 November, 08:00."""
    add_shop(engine)
    with transaction(engine) as tx:
        set_shop(tx, "harbour", {"owner_email": "owner@example.com"}, now=DRAFTED)
    return engine


def draft(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, now: datetime = DRAFTED, week: str = "2026-W47"
) -> Any:
    """Run the job once at ``now``; return its stats."""
    monkeypatch.setattr("services.closing.letter_job.utc_now", lambda: now)
    run = JobRun(
        id=1, job="owner-letter", shop_id=1, period=week, covers=Covers.WEEK, zone=ZONE,
        request_id="req-1", work_id=1,
    )  # fmt: skip
    done = draft_owner_letter(run)
    assert done.record is not None
    with transaction(engine) as tx:
        record_work(tx, done.record(tx).new_work, now)
    return done.stats


def work(engine: Engine, monkeypatch: pytest.MonkeyPatch, now: datetime) -> list[str]:
    """Do the letter work that is ready at ``now``; return the results of all so far."""
    monkeypatch.setattr("services.ledger.runner_transactional.utc_now", lambda: now)
    TransactionalRunner(engine, "tests", Random(1)).run_batch(TOPICS["letter_send"], send_letters)
    results = "select result from work_queue where topic = 'letter_send' order by finished_at, id"
    return [result for (result,) in rows(engine, results)]


def letters(*words: str, code: int = 0, given: str = "") -> str:
    result = CliRunner().invoke(main, ["letters", *words], input=given)
    assert result.exit_code == code, result.output
    return result.output


def show() -> Any:
    return json.loads(letters("show", "1", "--json"))


def open_incident(
    engine: Engine, shop_id: int | None, severity: str, at: datetime, rule: str = "errors_5xx"
) -> int:
    with transaction(engine) as tx:
        record_incidents(tx, [Incident(shop_id, rule, f"{at:%F %T}", severity, "seen")], at)
        return int(tx.exec_driver_sql("select max(id) from incidents").scalar_one())


def test_a_quiet_week_has_a_short_letter_that_is_mailed_on_tuesday_at_ten(
    shop: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sell(shop, "a", MONDAY, price=1000, quantity=2)

    assert draft(shop, monkeypatch) == {"problems": 0, "orders": 1, "planned": 0}

    found = show()
    assert found["body"].split("\n\n") == [
        "A quiet week: no problems in the week of Mon 16 Nov 2026. Your shop had 1 order, 20.00 CAD net.",
        CLOSING,
    ]
    assert datetime.fromisoformat(found["send_at"]) == TUESDAY
    assert work(shop, monkeypatch, TUESDAY - timedelta(minutes=1)) == [None]
    assert rows(shop, MAILS) == []
    assert work(shop, monkeypatch, TUESDAY) == ["mailed"]
    assert rows(shop, MAILS) == [("owner@example.com", "2026-W47")]
    (body,) = rows(shop, "select text from mail_outbox")[0]
    assert CLOSING in body


def test_a_week_is_drafted_and_mailed_once_however_often_it_runs(
    shop: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        draft(shop, monkeypatch)
        letters("approve", "1", code=0 if rows(shop, MAILS) == [] else 1)
        work(shop, monkeypatch, TUESDAY)

    assert rows(shop, LETTERS) == [("2026-W47", "mailed", "")]
    assert rows(shop, MAILS) == [("owner@example.com", "2026-W47")]


def test_a_busy_week_says_what_happened_what_was_done_and_what_is_planned(
    shop: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = datetime(2026, 11, 17, 9, 12, tzinfo=ZONE)
    own = open_incident(shop, 1, "P2", began)
    fleet = open_incident(shop, None, "P1", began + timedelta(days=1), "fleet_stopped")
    open_incident(shop, 1, "P3", began, "secret_old")
    open_incident(shop, None, "P3", began, "disk")
    open_incident(shop, 1, "P2", datetime(2026, 11, 23, 1, tzinfo=ZONE), "next_week")
    with transaction(shop) as tx:
        add_note(tx, own, "we restarted the ingress.", by="ada", now=began)
        add_note(tx, fleet, "the queue of mill was full", by="ada", now=began)
        resolve_by_person(tx, own, by="ada", now=began + timedelta(minutes=38), reason="all webhooks arrived")
        resolve_incidents(
            tx, [Recovery(None, "fleet_stopped", None, "It ran.")], began + timedelta(days=1, hours=2)
        )
        add_planned(tx, "reports move", date(2026, 12, 1), MONDAY, None, by="ada", now=began)
        add_planned(tx, "another shop's", date(2026, 12, 1), MONDAY, None, by="ada", now=began)
        tx.execute(text("update planned_changes set planned_on = '2026-11-22' where text like 'another%'"))

    draft(shop, monkeypatch)

    first, *others = show()["body"].split("\n\n")
    assert first.startswith("2 problems in the week of Mon 16 Nov 2026. There were no orders.")
    assert others == [
        "Wed 18 Nov 2026, 09:12 -08:00, for 2 h: fleet stopped. What we did: we repaired it.",
        "Tue 17 Nov 2026, 09:12 -08:00, for 38 min: errors 5xx. What we did: we restarted the ingress. "
        "all webhooks arrived.",
        "1 smaller notice needed no action from you.",
        "Planned: Tue 1 Dec 2026: reports move.",
        CLOSING,
    ]
    assert "mill" not in json.dumps(show()), "a note about the fleet may name another shop"


def test_only_the_largest_problems_are_described_and_the_others_are_counted() -> None:
    at = datetime(2026, 11, 17, 9, tzinfo=UTC)
    problems = [Problem("it was slow", "P2", at, None)] * (MOST_INCIDENTS + 2)
    record = WeekRecord("Harbour", MONDAY, ZONE, 0, {}, problems, 2, 1, 3, [])

    subject, body = write_letter(record)

    assert subject == "Harbour: 7 problems, the week of Mon 16 Nov 2026"
    assert body.count("it was slow") == MOST_INCIDENTS
    assert "There were 2 more problems." in body
    assert "and it goes on" in body
    assert "2 differences to Stripe found, 1 not solved yet." in body
    assert "The orders of 3 days were not read from Shopify" in body


@pytest.mark.parametrize(
    ("now", "sent"),
    [
        ("2026-11-23T08:00", "2026-11-24T10:00"),
        ("2026-11-24T07:59", "2026-11-24T10:00"),
        ("2026-11-24T08:01", "2026-11-25T10:00"),
        ("2026-11-26T18:00", "2026-11-27T10:00"),
        ("2027-03-14T09:30", "2027-03-15T10:00"),
    ],
)
def test_a_late_draft_leaves_two_hours_to_read_it(now: str, sent: str) -> None:
    planned = plan_send_time(
        datetime(2026, 11, 23, tzinfo=ZONE), datetime.fromisoformat(now).replace(tzinfo=ZONE)
    )

    assert planned.replace(tzinfo=None).isoformat("T", "minutes") == sent


def test_a_person_changes_holds_and_approves_a_letter(shop: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    draft(shop, monkeypatch)

    assert "would be held" in letters("hold", "1", "--reason", "cause unknown", "--dry-run")
    assert rows(shop, LETTERS) == [("2026-W47", "draft", "")]
    letters("hold", "1", "--reason", "cause unknown", "--as", "ada")
    assert work(shop, monkeypatch, TUESDAY) == ["held"]
    assert rows(shop, MAILS) == []

    letters("edit", "1", "--subject", " Your  week ", "--file", "-", given="First.\r\n\r\n\r\n  Second.\n")
    letters("approve", "1", "--as", "ada")
    assert work(shop, monkeypatch, LATER) == ["held", "mailed"]
    assert show()["state"] == "queued"
    ((subject, body),) = rows(shop, "select subject, text from mail_outbox")
    assert subject == "Your week"
    assert "First.\n\nSecond." in body
    for command in (["edit", "1", "--subject", "x"], ["hold", "1", "--reason", "x"], ["approve", "1"]):
        assert "is queued already: write to the owner yourself" in letters(*command, code=1)
    actions = rows(shop, "select action from audit_events where action like 'letter%' order by id")
    assert [action for (action,) in actions] == [
        "letter.hold",
        "letter.edit",
        "letter.approve",
        "letter.mail",
    ]


def test_a_letter_without_an_address_is_held_and_mailed_once_there_is_one(
    shop: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction(shop) as tx:
        set_shop(tx, "harbour", {"owner_email": ""}, now=DRAFTED)
    draft(shop, monkeypatch)

    assert work(shop, monkeypatch, TUESDAY) == ["no_owner_email"]
    ((_, status, reason),) = rows(shop, LETTERS)
    assert status == "held"
    assert "--owner-email" in reason

    with transaction(shop) as tx:
        set_shop(tx, "harbour", {"owner_email": "owner@example.com"}, now=DRAFTED)
    letters("approve", "1")
    assert work(shop, monkeypatch, LATER) == ["no_owner_email", "mailed"]
    assert rows(shop, MAILS) == [("owner@example.com", "2026-W47")]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["edit", "1"], "give --subject, --file, or both"),
        (["edit", "9", "--subject", "x"], "there is no letter 9"),
        (["edit", "1", "--subject", "x" * 181], "subject has 181 characters: it should have 1 to 180"),
        (["plan", "a", "--on", "2026-02-30"], "'2026-02-30' should be a day such as 2026-12-07"),
        (["plan", "a", "--on", "2026-01-01"], "on=2026-01-01 is over"),
        (["plan", " ", "--on", "2090-01-01"], "TEXT is empty"),
        (["unplan", "7"], "there is no planned change 7"),
    ],
)
def test_wrong_input_names_what_is_right(
    shop: Engine, monkeypatch: pytest.MonkeyPatch, words: list[str], error: str
) -> None:
    draft(shop, monkeypatch)

    assert error in letters(*words, code=2)
    assert rows(shop, LETTERS) == [("2026-W47", "draft", "")]


def test_planned_changes_are_of_all_owners_or_of_one_and_end_with_their_day(
    shop: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_shop(shop, "mill", "mill.myshopify.com")
    letters("plan", "for all", "--on", "2090-01-02")
    letters("plan", "for mill", "--on", "2090-01-01", "--shop", "mill")
    letters("plan", "not stored", "--on", "2090-01-01", "--dry-run")

    listed = json.loads(letters("planned", "--json"))
    assert [(one["slug"], one["text"]) for one in listed] == [("mill", "for mill"), (None, "for all")]
    draft(shop, monkeypatch)
    assert "Planned: Mon 2 Jan 2090: for all." in show()["body"]
    assert "for mill" not in show()["body"]
    letters("unplan", str(listed[1]["id"]))
    assert [one["text"] for one in json.loads(letters("planned", "--json"))] == ["for mill"]
