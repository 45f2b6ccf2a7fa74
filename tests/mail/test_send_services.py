"""The error code of each refusal of Resend and SendGrid."""

import pytest
from sqlalchemy import Engine

from services.mail.delivery_plan import UNKNOWN
from tests.mail.mails import mails_of, new_mail, queue, run, work_of
from tests.mail.services import resend, resend_says, sendgrid, sendgrid_says


@pytest.mark.parametrize(
    ("answer", "code", "status"),
    [
        (resend_says(422, "validation_error", "Invalid `to` field."), "resend.recipient_refused", "refused"),
        (resend_says(403, "validation_error", "Domain not verified."), "resend.sender_refused", "queued"),
        (resend_says(403, "invalid_api_key", "API key is invalid"), "resend.key_refused", "queued"),
    ],
)  # fmt: skip
def test_each_refusal_of_resend_has_its_error_code(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, answer: object, code: str, status: str
) -> None:
    queue(engine, new_mail())
    with resend(monkeypatch) as service:
        service.answers = [answer]  # type: ignore[list-item]
        run(engine)

    assert work_of(engine) == [("dead", None, code)]
    assert [row["status"] for row in mails_of(engine)] == [status]


@pytest.mark.parametrize(
    ("answer", "code", "status"),
    [
        (sendgrid_says(400, "bad", "personalizations.0.to.0.email"), "sendgrid.recipient_refused", "refused"),
        (sendgrid_says(400, "bad", "from"), "sendgrid.sender_refused", "queued"),
        (sendgrid_says(401, "Maximum credits exceeded"), "sendgrid.no_credits", "queued"),
        (sendgrid_says(403, "access forbidden"), "sendgrid.access_denied", "queued"),
        (sendgrid_says(500, "try later"), "sendgrid.unavailable", "queued"),
        ((502, None, {}), UNKNOWN, "unknown"),
    ],
)  # fmt: skip
def test_each_refusal_of_sendgrid_has_its_error_code(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, answer: object, code: str, status: str
) -> None:
    queue(engine, new_mail())
    with sendgrid(monkeypatch) as service:
        service.answers = [answer]  # type: ignore[list-item]
        run(engine)

    assert [row[2] for row in work_of(engine)] == [code]
    assert [row["status"] for row in mails_of(engine)] == [status]
