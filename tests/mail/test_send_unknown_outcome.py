"""A mail without an answer is repeated under its key, or a person decides."""

import pytest
from sqlalchemy import Engine, text

from services.core.db import transaction
from services.mail.delivery_plan import UNKNOWN
from tests.fakes.mail_services import SILENT
from tests.mail.mails import mails_of, make_due, new_mail, queue, run, work_of
from tests.mail.services import graph, resend, sendgrid


@pytest.mark.parametrize("service", [graph, sendgrid])
def test_without_an_answer_and_an_idempotency_key_a_person_decides(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, service: object
) -> None:
    queue(engine, new_mail())
    with service(monkeypatch) as running:  # type: ignore[operator]
        running.answers = [SILENT]
        run(engine)
        with transaction(engine) as tx:
            tx.execute(text("update work_queue set status = 'pending', retry_count = 0"))
        run(engine)

    assert len(running.mails) == 1
    assert [row["status"] for row in mails_of(engine)] == ["unknown"]
    assert work_of(engine) == [("dead", None, UNKNOWN)]


def test_resend_is_called_again_under_the_same_key_and_sends_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(engine, new_mail())
    with resend(monkeypatch) as service:
        service.answers = [SILENT]
        run(engine)
        assert work_of(engine) == [("error", None, "resend.no_answer")]
        assert [row["status"] for row in mails_of(engine)] == ["sending"]
        make_due(engine)
        run(engine)

    assert len(service.mails) == 1
    keys = {headers["idempotency-key"] for _, headers in service.calls}
    assert len(service.calls) == 2
    assert len(keys) == 1
    (row,) = mails_of(engine)
    assert (row["status"], row["provider_id"]) == ("sent", "resend-1")


def test_an_unknown_outcome_older_than_resends_key_is_for_a_person(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(engine, new_mail())
    with resend(monkeypatch) as service:
        service.answers = [SILENT]
        run(engine)
        with transaction(engine) as tx:
            tx.execute(text("update mail_outbox set handed_over_at = now() - interval '23 h 45 min'"))
        make_due(engine)
        run(engine)

    assert len(service.calls) == 1
    assert [row["status"] for row in mails_of(engine)] == ["unknown"]
    assert work_of(engine) == [("dead", None, UNKNOWN)]


def test_an_unknown_outcome_is_not_repeated_at_another_account(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(engine, new_mail())
    with resend(monkeypatch) as before:
        before.answers = [SILENT]
        run(engine)
    make_due(engine)
    with resend(monkeypatch) as after:
        run(engine)

    assert (len(before.mails), after.mails) == (1, [])
    assert [row["status"] for row in mails_of(engine)] == ["unknown"]


def test_a_key_used_for_another_text_is_for_a_person(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    queue(engine, new_mail())
    with resend(monkeypatch) as service:
        service.answers = [SILENT]
        run(engine)
        with transaction(engine) as tx:
            tx.execute(text("update mail_outbox set subject = 'changed by hand'"))
        make_due(engine)
        run(engine)

    assert len(service.mails) == 1
    assert [row["status"] for row in mails_of(engine)] == ["unknown"]
