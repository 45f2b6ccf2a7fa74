"""The result of each event of a mail service."""

import orjson
from sqlalchemy import Engine

from tests.fakes.mail_events import resend_body, sendgrid_event
from tests.mail.mails import work_of
from tests.mail.test_mail_events import receive, send
from tests.shopify.sample_payloads import rows


def test_an_outcome_names_what_is_unknown_or_cannot_be_read(engine: Engine) -> None:
    (mail,) = send(engine)
    events = [sendgrid_event("e1", "blocked"), 7, sendgrid_event("e2", "blocked", mail), ["e3"]]
    receive(engine, orjson.dumps(events))
    receive(engine, resend_body("email.delivered"), topic="email.delivered")
    for body in (b'{"type":"email.bounced"}', b'{"type":"email.bounced","data":[]}', b'["a"]'):
        receive(engine, body, topic="email.bounced")

    assert [(row[0], row[1]) for row in work_of(engine)] == [
        ("done", "split, not objects: 2, 4"), ("done", "soft_bounced, mail unknown"),
        ("done", "soft_bounced"), ("done", "delivered, mail unknown"), *[("dead", None)] * 3,
    ]  # fmt: skip
    faults = rows(engine, "select error_code, last_error from work_queue where status = 'dead' order by id")
    assert {code for code, _ in faults} == {"mail.unreadable_event"}
    assert "data is None: it should be an object" in faults[0][1]
