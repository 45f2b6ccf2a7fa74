"""Signed event webhooks as SendGrid and Resend send them."""

from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.core.clock import utc_now
from services.providers.mail_events import SIGNATURE, TIMESTAMP

AT = datetime(2026, 11, 20, 9, 1, tzinfo=UTC)


class SendGridAccount:
    """An account with a key pair of its own for its event webhook."""

    def __init__(self) -> None:
        self._private = generate_private_key(SECP256R1())
        der = self._private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.key = b64encode(der).decode()
        """What SendGrid shows as the verification key."""

    def sign(self, body: bytes, now: datetime | None = None) -> dict[str, str]:
        sent_at = str(int((now or utc_now()).timestamp()))
        signature = self._private.sign(sent_at.encode() + body, ECDSA(SHA256()))
        return {SIGNATURE: b64encode(signature).decode(), TIMESTAMP: sent_at}


def sendgrid_event(event_id: str, event: str, mail: Any = None, **fields: Any) -> dict[str, Any]:
    """Return one event of a body, of ``mail`` (a row of the outbox) or of an unknown one."""
    values = {
        "email": mail["recipient"] if mail else "stranger@example.com",
        "timestamp": int(AT.timestamp()),
        "smtp-id": "<14c5d75ce93.dfd.64b469@ismtpd-555>",
        "event": event,
        "sg_event_id": event_id,
        "sg_message_id": "Wv3dFkZZQIqfUpUQjhVUyA.recvd-7f5-abc-1-6.0",
    }
    if mail:
        own = {"shopfleet_mail": str(mail["id"]), "shopfleet_message": f"shopfleet-{mail['token']}"}
        values |= own
    return values | fields


def sendgrid_body(*events: dict[str, Any]) -> bytes:
    """Return a body as SendGrid formats it: a line for each event, with a line break at the end."""
    return b"[" + b",\r\n".join(orjson.dumps(event) for event in events) + b"]\r\n"


def resend_body(event: str, mail: Any = None, *, bounce: dict[str, str] | None = None, **data: Any) -> bytes:
    """Return a body of Resend about ``mail`` (a row of the outbox) or an unknown one."""
    values: dict[str, Any] = {
        "email_id": mail["provider_id"] if mail else "56761188-7520-42d8-8898-ff6fc54ce618",
        "to": [mail["recipient"] if mail else "stranger@example.com"],
        "tags": {},
    }
    if mail:
        own = {"shopfleet_mail": str(mail["id"]), "shopfleet_message": f"shopfleet-{mail['token']}"}
        values["tags"] = own
    if bounce:
        values["bounce"] = bounce
    return orjson.dumps({"type": event, "created_at": "2026-11-20T09:01:00.000Z", "data": values | data})
