"""Signatures of SendGrid's and Resend's event webhooks."""

from datetime import timedelta
from json import dumps
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.errors import WebhookRejected
from services.core.fields import Unreadable
from services.providers.delivery import UNREADABLE, WebhookDelivery
from services.providers.mail_event_payload import MAIL_KEY, find_resend_event, list_sendgrid_events
from services.providers.mail_events import (
    BATCH,
    RESEND,
    RETRIED_FOR,
    SENDGRID,
    SIGNATURE,
    TIMESTAMP,
    make_key_pair,
    read_sendgrid_delivery,
    sign_resend,
    sign_sendgrid,
)
from services.providers.provider import SecretInvalid
from services.providers.registry import get_secret_kind
from services.providers.standard_webhooks import read_standard_delivery
from tests.fakes.mail_events import AT, SendGridAccount, resend_body, sendgrid_body, sendgrid_event

ACCOUNT = SendGridAccount()
BODY = sendgrid_body(sendgrid_event("e1", "delivered"), sendgrid_event("e2", "bounce"))


def read(
    body: bytes = BODY, headers: dict[str, str] | None = None, *keys: str, after: float = 0
) -> WebhookDelivery:
    secrets = [key.encode() for key in keys or (ACCOUNT.key,)]
    given = ACCOUNT.sign(body, AT) if headers is None else headers
    return read_sendgrid_delivery(given, body, secrets, AT + timedelta(seconds=after))


def test_a_body_of_many_events_is_verified_as_the_bytes_that_came() -> None:
    """sendgrid-nodejs 1278 and 1411, sendgrid-python 950: a body that was parsed and written again fails."""
    assert (read().topic, read().readable, read().secret_index) == (BATCH, True, 0)
    assert read().delivery_key == read(after=600).delivery_key
    with pytest.raises(WebhookRejected):
        read(BODY.replace(b"\r\n", b""), ACCOUNT.sign(BODY, AT))


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "12", "Bounced Address"]),
    lambda inner: st.lists(inner, max_size=2)
    | st.lists(st.fixed_dictionaries({"name": inner, "value": inner}), min_size=1, max_size=2)
    | st.dictionaries(st.sampled_from(["name", "value", "type", "message"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
SENDGRID_FIELDS = ("email", "timestamp", "sg_event_id", "sg_message_id", "reason", "status", "type", MAIL_KEY)
RESEND_FIELDS = ("email_id", "to", "tags", "bounce")


@given(
    one=st.fixed_dictionaries(dict.fromkeys(SENDGRID_FIELDS, ANY_JSON) | {"event": st.just("bounce")}),
    data=st.fixed_dictionaries(dict.fromkeys(RESEND_FIELDS, ANY_JSON)) | ANY_JSON,
    created_at=ANY_JSON,
)
@settings(max_examples=300, deadline=None)
def test_any_value_in_a_field_makes_an_event_that_can_be_stored(one: Any, data: Any, created_at: Any) -> None:
    resend = {"type": "email.bounced", "created_at": created_at, "data": data}
    found = [*list_sendgrid_events(dumps([one]).encode())]
    if isinstance(data, dict):
        found.append(find_resend_event(dumps(resend).encode()))
    else:
        with pytest.raises(Unreadable, match=r"data is .* it should be an object"):
            find_resend_event(dumps(resend).encode())

    assert len(found) == 1 + isinstance(data, dict)
    for event in found:
        assert event is not None
        values = (event.event_id, event.address, event.mail_key, event.provider_id, event.detail)
        assert all("\0" not in value and value.encode() is not None for value in values)
        assert 0 <= event.mail_id < 2**63
        assert event.at is None or event.at.isoformat()


def test_the_second_key_of_a_rotation_verifies_too() -> None:
    assert read(BODY, None, SendGridAccount().key, ACCOUNT.key).secret_index == 1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {SIGNATURE: ""},
        {TIMESTAMP: ACCOUNT.sign(BODY, AT)[TIMESTAMP]},
        {SIGNATURE: ACCOUNT.sign(BODY, AT)[SIGNATURE]},
        ACCOUNT.sign(BODY, AT) | {TIMESTAMP: str(int(AT.timestamp()) + 1)},
        ACCOUNT.sign(BODY, AT) | {TIMESTAMP: f"{int(AT.timestamp())} "},
        ACCOUNT.sign(BODY, AT) | {SIGNATURE: "no base64"},
        ACCOUNT.sign(BODY, AT) | {SIGNATURE: "AAAA"},
        ACCOUNT.sign(BODY + b" ", AT),
        SendGridAccount().sign(BODY, AT),
        ACCOUNT.sign(BODY, AT) | {TIMESTAMP: "¹²"},
    ],
)
def test_a_missing_or_wrong_signature_is_refused(headers: dict[str, str]) -> None:
    """novu 11829: a request without the headers is not accepted."""
    with pytest.raises(WebhookRejected) as refused:
        read(BODY, headers)
    assert refused.value.code == "invalid_signature"


@pytest.mark.parametrize("key", ["", "bm90IGEga2V5", "not base64", "MFkwEwYHKoZIzj0CAQY="])
def test_nothing_verifies_with_a_key_that_cannot_be_read(key: str) -> None:
    with pytest.raises(WebhookRejected):
        read(BODY, None, key)


def test_a_retry_of_24_hours_is_accepted_and_an_older_one_is_not() -> None:
    """gumroad 4922 refuses after 5 minutes: the retries of an outage are lost."""
    assert read(after=24 * 3600 + 60).readable
    for after in (RETRIED_FOR.total_seconds() + 1, -301):
        with pytest.raises(WebhookRejected):
            read(after=after)


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"[", b"null", b'["a"]'])
def test_a_signed_body_that_is_no_list_of_events_is_kept(body: bytes) -> None:
    assert (read(body).topic, read(body).readable) == (UNREADABLE, False)


def test_resends_webhook_has_svix_headers() -> None:
    """pathment 408: a reader of other headers refused every event, and Resend disabled the webhook."""
    secret = RESEND.webhook_secret.generate().encode()
    body = resend_body("email.bounced", bounce={"type": "Permanent"})
    headers = sign_resend(body, secret, webhook_id="1", now=AT)
    assert {name for name in headers if "-" in name and name != "Content-Type"} == {
        "svix-id", "svix-timestamp", "svix-signature",
    }  # fmt: skip
    delivery = read_standard_delivery(headers, body, [secret], AT)
    assert (delivery.topic, delivery.delivery_key) == ("email.bounced", "msg_1")
    with pytest.raises(WebhookRejected):
        read_standard_delivery(headers, body + b" ", [secret], AT)


def test_a_key_pair_of_our_own_signs_and_verifies_like_sendgrids() -> None:
    pair = make_key_pair()
    headers = sign_sendgrid(BODY, pair.encode(), now=AT)
    lower = {name.lower(): value for name, value in headers.items()}
    assert read(BODY, lower, pair).readable
    with pytest.raises(WebhookRejected):
        read(BODY, lower, ACCOUNT.key, make_key_pair())
    with pytest.raises(SecretInvalid, match="alone can sign"):
        sign_sendgrid(BODY, ACCOUNT.key.encode(), now=AT)


def test_the_recorded_key_must_be_a_key_of_p256() -> None:
    kind = get_secret_kind("sendgrid-webhook-key")
    assert kind == SENDGRID.webhook_secret
    assert kind.parse(f" {ACCOUNT.key}\n") == ACCOUNT.key
    # listmonk 1270 and 2911: a key in another form was accepted, and all bounces were lost.
    pem = f"-----BEGIN PUBLIC KEY-----\n{ACCOUNT.key}\n-----END PUBLIC KEY-----"
    for wrong in ("bm90IGEga2V5", "SG.abc", "whsec_abc", ACCOUNT.key[:-8], pem, pem.replace("\n", "")):
        with pytest.raises(SecretInvalid, match="verification key that SendGrid shows"):
            kind.parse(wrong)
    assert kind.parse(generated := kind.generate()) == generated
