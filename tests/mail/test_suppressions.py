"""A suppressed address gets no mail, also one that is in the outbox already."""

from pathlib import Path

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.core.errors import NothingToDo
from services.mail.suppressions import (
    BLOCKED,
    BOUNCED,
    COMPLAINED,
    REASONS,
    SUPPRESSED,
    UNSUBSCRIBED,
    find_suppressed,
    suppress,
    unsuppress,
)
from services.privacy.mail_data import find_suppression_rows, redact_suppressions
from services.privacy.subject import DataSubject
from tests.mail.mails import NOW, audit_of, mail_settings, mails_of, new_mail, queue, run, work_of
from tests.shopify.sample_payloads import add_shop, rows

UNSUBSCRIBE = "https://fleet.example/unsubscribe/1"


def stop(engine: Engine, reason: str, shop_id: int | None = None, address: str = "owner@example.com") -> bool:
    with transaction(engine) as tx:
        return suppress(tx, shop_id, address, reason, "sendgrid event 1", NOW, mail_id=1)


def send(engine: Engine, monkeypatch: pytest.MonkeyPatch, folder: Path) -> int:
    """Run one batch; return how many mails are in ``folder`` then."""
    with mail_settings(monkeypatch, MAIL_TRANSPORT="file", MAIL_FOLDER=str(folder)):
        run(engine)
    return len([*folder.iterdir()]) if folder.exists() else 0


@pytest.mark.parametrize("reason", REASONS)
def test_a_commercial_mail_that_waits_is_not_sent(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reason: str
) -> None:
    queue(engine, new_mail(list_unsubscribe=UNSUBSCRIBE), new_mail(2, recipient="other@example.com"))
    assert stop(engine, reason)

    assert send(engine, monkeypatch, tmp_path) == 1

    assert [(row["status"], row["error_code"]) for row in mails_of(engine)] == [
        ("refused", SUPPRESSED), ("sent", None),
    ]  # fmt: skip
    assert f"({reason})" in mails_of(engine)[0]["last_error"]
    assert work_of(engine) == [("done", "suppressed", None), ("done", "sent", None)]
    assert ("mail.refused", "mail test to o***@example.com refused: mail.suppressed") in audit_of(engine)


@pytest.mark.parametrize("reason", REASONS)
def test_other_mail_is_stopped_by_a_bounce_or_a_person_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reason: str
) -> None:
    queue(engine, new_mail())
    stop(engine, reason)

    is_stopped = reason in (BOUNCED, BLOCKED)
    assert send(engine, monkeypatch, tmp_path) == (not is_stopped)
    assert work_of(engine) == [("dead", None, SUPPRESSED) if is_stopped else ("done", "sent", None)]


@pytest.mark.parametrize("kind", ["incident", "job_late", "audit_failed"])
def test_an_alert_of_the_fleet_is_tried_after_a_bounce(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    shop_id = add_shop(engine)
    stop(engine, BOUNCED)
    stop(engine, BOUNCED, shop_id)
    queue(engine, new_mail(kind=kind))
    queue(engine, new_mail(2, kind=kind, shop_id=shop_id))

    assert send(engine, monkeypatch, tmp_path) == 1
    stop(engine, BLOCKED)
    queue(engine, new_mail(3, kind=kind))
    assert send(engine, monkeypatch, tmp_path) == 1


def test_a_suppression_is_of_one_shop_and_one_address_in_any_spelling(engine: Engine) -> None:
    shop_id = add_shop(engine)
    stop(engine, BOUNCED, shop_id, "Käthe@BÜCHER.example".replace("ä", "a"))
    stop(engine, UNSUBSCRIBED, None, "ada@example.com")
    stop(engine, BOUNCED, None, "ada@example.com")
    wanted = [
        (shop_id, "kathe@bücher.example"),
        (shop_id, "KATHE@xn--bcher-kva.example"),
        (None, "kathe@bücher.example"),
        (None, " Ada@example.com"),
        (shop_id, "ada@example.com"),
    ]

    with transaction(engine) as tx:
        assert find_suppressed(tx, wanted) == {
            wanted[0]: (BOUNCED,), wanted[1]: (BOUNCED,), wanted[3]: (BOUNCED, UNSUBSCRIBED),
        }  # fmt: skip
        assert find_suppressed(tx, []) == {}


def test_suppressing_twice_changes_nothing(engine: Engine) -> None:
    assert [stop(engine, BOUNCED), stop(engine, BOUNCED, address="OWNER@example.com")] == [True, False]
    assert stop(engine, COMPLAINED)

    assert [summary for _, summary in audit_of(engine)] == [
        "mail to o***@example.com is stopped: bounced",
        "mail to o***@example.com is stopped: complained",
    ]


def test_mail_goes_again_once_the_suppression_is_removed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stop(engine, BOUNCED)
    with transaction(engine) as tx:
        assert unsuppress(tx, None, "Owner@example.com", NOW, by="ada", why="it works") == [BOUNCED]
    with transaction(engine) as tx, pytest.raises(NothingToDo, match=r"o\*\*\*@example.com"):
        unsuppress(tx, None, "owner@example.com", NOW, by="ada", why="it works")
    queue(engine, new_mail())

    assert send(engine, monkeypatch, tmp_path) == 1
    assert "mail to o***@example.com may be sent again: it works" in dict(audit_of(engine)).values()


def test_a_redacted_address_cannot_be_read_and_gets_no_mail(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shop_id = add_shop(engine)
    for address in ("owner@example.com", "owner@bücher.example", "jane@example.com"):
        stop(engine, UNSUBSCRIBED, shop_id, address)
    emails = frozenset({"owner@example.com", "owner@bücher.example"})
    subject = DataSubject(shop_id=shop_id, emails=emails)
    with transaction(engine) as tx:
        assert len([*find_suppression_rows(tx, subject)]) == 2
        assert redact_suppressions(tx, subject, NOW) == {"mail_suppressions": 2}
        assert redact_suppressions(tx, subject, NOW) == {"mail_suppressions": 0}

    left = rows(engine, "select address from mail_suppressions where address like '%@%'")
    assert left == [("jane@example.com",)]
    assert not stop(engine, UNSUBSCRIBED, shop_id)
    queue(engine, new_mail(shop_id=shop_id, list_unsubscribe=UNSUBSCRIBE))
    assert send(engine, monkeypatch, tmp_path) == 0
    with transaction(engine) as tx:
        assert redact_suppressions(tx, DataSubject(shop_id=shop_id, whole_shop=True), NOW) == {
            "mail_suppressions": 1
        }


def test_a_mail_of_unknown_outcome_stays_unknown_if_its_address_is_suppressed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    queue(engine, new_mail())
    assert send(engine, monkeypatch, tmp_path) == 1
    with transaction(engine) as tx:  # as if the worker had died before it stored the result
        tx.exec_driver_sql("update mail_outbox set status = 'sending', sent_at = null")
        tx.exec_driver_sql("update work_queue set status = 'error', result = null, finished_at = null")
    stop(engine, BOUNCED)
    send(engine, monkeypatch, tmp_path)

    assert [row["status"] for row in mails_of(engine)] == ["unknown"]
    assert [row[0] for row in work_of(engine)] == ["dead"]
