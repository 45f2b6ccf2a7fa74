"""Mail through Twilio SendGrid's ``/v3/mail/send``.

202 means taken charge of. There is no idempotency key: our own id goes along in ``custom_args``, so that
the activity feed and event webhooks can be searched for it. Source: SendGrid's OpenAPI of mail/send.
"""

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from services.core.errors import Misconfigured, OutcomeUnknown, Refused, RetryLater, WorkError
from services.providers.mail_http import base64_content, find_body, http_client, post, stated_wait, throttled
from services.providers.outgoing_mail import OutgoingMail, ascii_address, one_line, parse_sender

if TYPE_CHECKING:
    import httpx

API_BASE = "https://api.sendgrid.com"
LARGEST_BYTES = 30 * 1024 * 1024


class SendGridTransport:
    """Sends through one account, or subuser, of SendGrid."""

    def __init__(self, api_key: str, api_base: str = API_BASE, http: "httpx.Client | None" = None) -> None:
        self._api_key, self._url = api_key, f"{api_base.rstrip('/')}/v3/mail/send"
        self._http = http or http_client()

    def __repr__(self) -> str:
        return f"SendGridTransport({self._url!r})"

    def send(self, letter: OutgoingMail) -> str:
        """SendGrid has taken charge of ``letter``; return its ``X-Message-Id``."""
        headers = {"Authorization": f"Bearer {self._api_key}", "Content-Type": "application/json"}
        response = post("sendgrid", self._http, self._url, headers, json=request_body(letter))
        if response.status_code == 202:
            return str(response.headers.get("x-message-id", ""))
        raise _failure(response)

    def close(self) -> None:
        """The connections are the process's; nothing is to do."""


def request_body(letter: OutgoingMail) -> dict[str, Any]:
    """Return what SendGrid is asked for. Pure."""
    name, address = parse_sender(letter.sender)
    body: dict[str, Any] = {
        "personalizations": [
            {
                "to": [{"email": ascii_address(letter.recipient)}],
                "custom_args": {"shopfleet_message": letter.idempotency_key},
            }
        ],
        "from": {"email": address, "name": name} if name else {"email": address},
        "subject": one_line(letter.subject),
        "content": [
            {"type": "text/plain", "value": letter.text},
            {"type": "text/html", "value": letter.html},
        ],
        "headers": {"Message-ID": f"<{letter.message_id}>"}
        | {name: one_line(value) for name, value in letter.headers.items()},
    }
    files = [
        {
            "content": base64_content(part),
            "type": part.content_type,
            "filename": part.name,
            "disposition": "inline" if part.content_id else "attachment",
        }
        | ({"content_id": part.content_id} if part.content_id else {})
        for part in (*letter.attachments, *letter.inline)
    ]
    return body | ({"attachments": files} if files else {})


def _failure(response: "httpx.Response") -> WorkError:  # noqa: PLR0911 - a table of answers
    errors = [error for error in find_body(response).get("errors") or () if isinstance(error, dict)]
    field = str(errors[0].get("field") or "") if errors else ""
    said = f"HTTP {response.status_code} {errors[0].get('message') if errors else ''}"[:300].rstrip()
    match response.status_code:
        case 429:
            return throttled("sendgrid", said, stated_wait(response) or _until_reset(response))
        case 401:
            if "credit" in said.lower():
                return Misconfigured("sendgrid.no_credits", f"{said}; raise the plan, then requeue")
            return Misconfigured("sendgrid.key_refused", f"{said}; make a new API key and record it")
        case 403:
            return Misconfigured(
                "sendgrid.access_denied",
                f"{said}; the key needs the permission Mail Send, the sender must be verified",
            )
        case 404 | 405:
            return Misconfigured("sendgrid.address_wrong", f"{said}; check SENDGRID_API_BASE")
        case 413:
            return Refused("sendgrid.too_large", said)
        case status if status >= 500:
            if errors or status == 503:
                return RetryLater("sendgrid.unavailable", said, wait=stated_wait(response))
            return OutcomeUnknown("sendgrid.no_answer", said)
    if field.startswith("personalizations"):
        return Refused("sendgrid.recipient_refused", f"{said} (field {field})")
    if field.startswith("from"):
        return Misconfigured("sendgrid.sender_refused", f"{said} (field {field})")
    return Refused("sendgrid.refused", f"{said} (field {field})" if field else said)


def _until_reset(response: "httpx.Response") -> timedelta | None:
    """Return the time until ``X-RateLimit-Reset``, which is a moment in Unix seconds."""
    stated = response.headers.get("x-ratelimit-reset", "")
    if not stated.isdecimal():
        return None
    return timedelta(seconds=min(max(float(stated) - time.time(), 1.0), 3600.0))
