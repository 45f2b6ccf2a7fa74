"""Mail through Resend's ``POST /emails``, under an idempotency key that Resend keeps for 24 hours.

Source: Resend's OpenAPI; error names: resend-python 2.52.0; the key's life: resend.com/docs, "Idempotency
keys".
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson

from services.core.errors import Misconfigured, OutcomeUnknown, Refused, WorkError
from services.providers.http import find_json, get_http_client, parse_retry_after, post
from services.providers.outgoing_mail import (
    WAIT_LONGEST,
    AlreadySubmitted,
    MailThrottled,
    OutgoingMail,
    ascii_address,
    mail_throttled,
    one_line,
    parse_sender,
    quoted_sender,
)

if TYPE_CHECKING:
    import httpx

API_BASE = "https://api.resend.com"
KEY_LASTS = timedelta(hours=24)
QUOTA_WAIT = timedelta(hours=3)
"""A quota that is used up: looked at again some times a day, and soon enough after it is raised."""


class ResendTransport:
    """Sends through one team of Resend."""

    def __init__(self, api_key: str, api_base: str = API_BASE, http: "httpx.Client | None" = None) -> None:
        self._api_key, self._url = api_key, f"{api_base.rstrip('/')}/emails"
        self._http = http or get_http_client()

    def __repr__(self) -> str:
        return f"ResendTransport({self._url!r})"

    def send(self, mail: OutgoingMail) -> str:
        """Resend has taken charge of ``mail``, once however often it is told; return its id."""
        headers = {
            "Authorization": f"Bearer {self._api_key}",
            "Content-Type": "application/json",
            "Idempotency-Key": mail.idempotency_key,
        }
        response = post("resend", self._http, self._url, headers, content=orjson.dumps(request_body(mail)))
        if response.status_code != 200:
            raise _failure(response)
        return str((find_json(response) or {}).get("id") or "")

    def close(self) -> None:
        """Do nothing: the connections belong to the process."""


def request_body(mail: OutgoingMail) -> dict[str, Any]:
    """Return what Resend is asked for. Pure: the same mail, the same body, as the key demands."""
    name, address = parse_sender(mail.sender)
    body: dict[str, Any] = {
        "from": quoted_sender(name, address),
        "to": [ascii_address(mail.recipient)],
        "subject": one_line(mail.subject),
        "text": mail.text,
        "html": mail.html,
        "headers": {"Message-ID": f"<{mail.message_id}>"}
        | {name: one_line(value) for name, value in mail.headers.items()},
    }
    files = [
        {"content": part.base64, "filename": part.name, "content_type": part.content_type}
        | ({"content_id": part.content_id} if part.content_id else {})
        for part in (*mail.attachments, *mail.inline)
    ]
    return body | ({"attachments": files} if files else {})


def _failure(response: "httpx.Response") -> WorkError:  # noqa: PLR0911 - a table of answers
    body = find_json(response) or {}
    name = str(body.get("name") or "")
    message = str(body.get("message") or "")
    detail = f"HTTP {response.status_code} {name}: {message}"[:300].rstrip(": ")
    if name.endswith("_quota_exceeded"):
        return MailThrottled(
            f"resend.{name}", f"{detail}; it goes on when the quota is renewed", wait=QUOTA_WAIT
        )
    wait = parse_retry_after(response.headers, WAIT_LONGEST)
    match response.status_code:
        case 429:
            return mail_throttled("resend", detail, wait)
        case 409 if name == "concurrent_idempotent_requests":
            return OutcomeUnknown("resend.concurrent", detail)
        case 409:
            return AlreadySubmitted("resend.key_reused", f"{detail}; it went out before with other words")
        case 401:
            return Misconfigured("resend.key_refused", f"{detail}; make a new API key and record it")
        case 403 if "domain" in message.lower():
            return Misconfigured("resend.sender_refused", f"{detail}; verify the sender's domain at Resend")
        case 403:
            return Misconfigured("resend.key_refused", f"{detail}; make a new API key and record it")
        case 404 | 405:
            return Misconfigured("resend.address_wrong", f"{detail}; check RESEND_API_BASE")
        case status if status >= 500:
            return OutcomeUnknown("resend.no_answer", detail)
    if "`to`" in message:
        return Refused("resend.recipient_refused", detail)
    if "`from`" in message:
        return Misconfigured("resend.sender_refused", detail)
    return Refused("resend.refused", detail)
