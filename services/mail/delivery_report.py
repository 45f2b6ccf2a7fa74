"""Delivery reports that mail servers send as mail (RFC 3464, ``multipart/report``). Pure."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes, message_from_string
from email.message import Message
from email.utils import parsedate_to_datetime

from services.core.log_redaction import redact_text
from services.providers.mail_event_payload import BOUNCED, DEFERRED, DELIVERED, SOFT_BOUNCED


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReport:
    """What a mail server reports about one recipient of the mail ``message_id`` (without brackets)."""

    report_id: str
    message_id: str
    kind: str
    at: datetime | None
    detail: str


def parse_report(raw: bytes) -> list[DeliveryReport]:
    """Return the reports in a message; empty for any other mail, such as an automatic reply.

    A bounce is hard if the action is ``failed`` and the status begins with 5.
    """
    message = message_from_bytes(raw)
    if message.get_content_type() != "multipart/report" or _param(message) != "delivery-status":
        return []
    parts = [*message.walk()]
    message_id = next(filter(None, map(_find_message_id, parts)), "")
    if not message_id:
        return []
    blocks = [
        block
        for part in parts
        if part.get_content_type() == "message/delivery-status"
        for block in _list_blocks(part)
    ]
    reports = []
    for number, block in enumerate(blocks):
        if kind := _find_kind(block):
            key = f"{message.get('Message-ID', '')} {message_id} {number} {block}"
            text = f"{_field(block, 'Status')} {_field(block, 'Diagnostic-Code')}"
            reports.append(
                DeliveryReport(
                    report_id=hashlib.sha256(key.encode("utf-8", "replace")).hexdigest(),
                    message_id=message_id,
                    kind=kind,
                    at=_find_date(message),
                    detail=redact_text(" ".join(text.split()))[:300],
                )
            )
    return reports


def _param(message: Message) -> str:
    value = message.get_param("report-type")
    return value.lower() if isinstance(value, str) else ""


def _list_blocks(part: Message) -> Iterator[Message]:
    payload = part.get_payload()
    if isinstance(payload, list):
        yield from (block for block in payload if isinstance(block, Message))


def _find_kind(block: Message) -> str:
    action, status = _field(block, "Action").lower(), _field(block, "Status")
    if action == "failed":
        return BOUNCED if status.startswith("5") else SOFT_BOUNCED
    return {"delayed": DEFERRED, "delivered": DELIVERED}.get(action, "")


def _find_message_id(part: Message) -> str:
    """Return the Message-ID of the returned mail, if ``part`` has it or its headers."""
    payload = part.get_payload()
    returned: Message | None = None
    if part.get_content_type() == "message/rfc822" and isinstance(payload, list) and payload:
        returned = payload[0] if isinstance(payload[0], Message) else None
    elif part.get_content_type() == "text/rfc822-headers":
        decoded = part.get_payload(decode=True)
        text = decoded.decode("utf-8", "replace") if isinstance(decoded, bytes) else ""
        returned = message_from_string(text.lstrip())
    return "" if returned is None else _field(returned, "Message-ID").strip("<> ")


def _field(message: Message, name: str) -> str:
    return str(message.get(name, "")).replace("\0", "").encode("utf-8", "replace").decode().strip()


def _find_date(message: Message) -> datetime | None:
    try:
        found = parsedate_to_datetime(str(message.get("Date", "")))
    except ValueError:
        return None
    return found if found.tzinfo else None
