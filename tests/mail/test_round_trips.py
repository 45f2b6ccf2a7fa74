"""Each column of the outbox is written and read under its own name."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine, insert, select

from services.core.db import transaction
from services.core.errors import RetryLater
from services.ledger.work import WorkItem
from services.mail.delivery_log import DeliveryLog, SendResult
from services.mail.delivery_plan import MailDelivery
from services.mail.message import Attachment
from services.mail.outbox import find_parts, record_mails
from services.mail.outbox_admin import find_mails, get_mail
from services.mail.send import find_outbox_rows
from services.mail.tables import mail_outbox
from services.mail.transports import MailRoute
from tests.mail.mails import NOW, mails_of, new_mail

ROW = {
    "shop_id": 7,
    "dedupe_key": "a dedupe key",
    "kind": "a kind",
    "period": "a period",
    "recipient": "reader@example.com",
    "subject": "a subject",
    "text": "a text",
    "html": "an html",
    "headers": {"X-Name": "a header"},
    "has_parts": True,
    "status": "unknown",
    "attempt": 3,
    "token": "a token",
    "transport": "a transport",
    "account": "an account",
    "message_id": "a message id",
    "provider_id": "a provider id",
    "error_code": "an.error",
    "last_error": "what went wrong",
    "work_id": None,
    "request_id": "a request id",
    "created_at": NOW,
    "handed_over_at": NOW + timedelta(minutes=1),
    "sent_at": NOW + timedelta(minutes=2),
}


def test_every_query_returns_each_column_under_its_name(engine: Engine) -> None:
    with transaction(engine) as tx:
        mail_id = tx.scalar(insert(mail_outbox).values(**ROW).returning(mail_outbox.c.id))
        assert isinstance(mail_id, int)
        (listed,) = find_mails(tx, shop_id=7)
        (row,) = find_outbox_rows(tx, [str(mail_id)]).values()
        found = [get_mail(tx, mail_id), listed, row]

    for one in found:
        fields = set(one._fields) & set(ROW)
        assert len(fields) > 12
        assert {name: getattr(one, name) for name in fields} == {name: ROW[name] for name in fields}
        assert one.id == mail_id


def test_a_composed_mail_is_stored_with_each_part_in_its_column(engine: Engine) -> None:
    fields = {
        name: ROW[name] for name in ("shop_id", "kind", "period", "recipient", "subject", "text", "html")
    }
    file = Attachment(name="a name", content_type="a/type", content=b"a file")
    image = Attachment(name="an image", content_type="an/image", content=b"bytes", content_id="an id")
    mail = new_mail(**fields, headers={"X-Name": "a header"}, attachments=(file,), inline=(image,))
    with transaction(engine) as tx:
        (work,) = record_mails(tx, [mail], NOW, request_id="a request id")
        assert find_parts(tx, int(work.key)) == ((file,), (image,))

    (row,) = mails_of(engine)
    assert {name: row[name] for name in fields} == fields
    assert row["headers"] == {"Auto-Submitted": "auto-generated", "X-Name": "a header"}
    assert (row["dedupe_key"], row["has_parts"]) == (mail.dedupe_key, True)
    assert (row["request_id"], row["created_at"]) == ("a request id", NOW)


def test_start_and_result_of_a_send_are_stored_in_their_columns(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction(engine) as tx:
        changes = {"status": "queued", "handed_over_at": None, "sent_at": None}
        mail_id = tx.scalar(insert(mail_outbox).values(**ROW | changes).returning(mail_outbox.c.id))
        assert isinstance(mail_id, int)
    later = NOW + timedelta(hours=1)
    monkeypatch.setattr("services.mail.delivery_log.utc_now", lambda: later)
    log = DeliveryLog(lambda: engine)
    route = MailRoute(owner=None, account=0, transport="file", sender="a@b.example")
    with transaction(engine) as tx:
        (queued,) = find_outbox_rows(tx, [str(mail_id)]).values()
    delivery = MailDelivery(WorkItem(9, 0, "mail_send", str(mail_id), {}, 0), queued, route)
    names = {"transport": "file", "account": route.fingerprint, "message_id": "a message id"}

    assert log.begin(delivery)
    (row,) = mails_of(engine)
    assert {name: row[name] for name in names} == names
    assert (row["status"], row["attempt"], row["work_id"]) == ("sending", 4, 9)
    assert (row["handed_over_at"], row["error_code"], row["last_error"]) == (later, None, None)

    result = {"status": "sent", "provider_id": "p", "error_code": "e", "last_error": "l"}
    log.end(SendResult(delivery, "sent", RetryLater("e", "l"), provider_id="p", summary="sent"))
    (row,) = mails_of(engine)
    assert {name: row[name] for name in result} == result
    assert row["sent_at"] == later
    with transaction(engine) as tx:
        untouched = tx.execute(select(mail_outbox.c.token, mail_outbox.c.request_id)).one()
    assert tuple(untouched) == ("a token", "a request id")
