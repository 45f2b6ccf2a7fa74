"""Mail through Twilio SendGrid's ``/v3/mail/send``.

202 means taken charge of. There is no idempotency key: our own id goes along in ``custom_args``, so that
the activity feed and event webhooks can be searched for it. Source: SendGrid's OpenAPI of mail/send.
"""

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson

from services.core.errors import Misconfigured, OutcomeUnknown, Refused, RetryLater, WorkError
from services.providers.http import find_json, get_http_client, parse_retry_after, post
from services.providers.outgoing_mail import (
    WAIT_LONGEST,
    OutgoingMail,
    ascii_address,
    mail_throttled,
    one_line,
    parse_sender,
)

if TYPE_CHECKING:
    import httpx

API_BASE = "https://api.sendgrid.com"
LARGEST_BYTES = 30 * 1024 * 1024


class SendGridTransport:
    """Sends through one account, or subuser, of SendGrid."""

    def __init__(self, api_key: str, api_base: str = API_BASE, http: "httpx.Client | None" = None) -> None:
        self._api_key, self._url = api_key, f"{api_base.rstrip('/')}/v3/mail/send"
        self._http = http or get_http_client()

    def __repr__(self) -> str:
        return f"SendGridTransport({self._url!r})"

    def send(self, mail: OutgoingMail) -> str:
        """SendGrid has taken charge of ``mail``; return its ``X-Message-Id``."""
        headers = {"Authorization": f"Bearer {self._api_key}", "Content-Type": "application/json"}
        response = post("sendgrid", self._http, self._url, headers, content=orjson.dumps(request_body(mail)))
        if response.status_code == 202:
            return str(response.headers.get("x-message-id", ""))
        raise _failure(response)

    def close(self) -> None:
        """Do nothing: the connections belong to the process."""


def request_body(mail: OutgoingMail) -> dict[str, Any]:
    """Return what SendGrid is asked for. Pure."""
    name, address = parse_sender(mail.sender)
    body: dict[str, Any] = {
        "personalizations": [
            {
                "to": [{"email": ascii_address(mail.recipient)}],
                "custom_args": {"shopfleet_message": mail.idempotency_key},
            }
        ],
        "from": {"email": address, "name": name} if name else {"email": address},
        "subject": one_line(mail.subject),
        "content": [
            {"type": "text/plain", "value": mail.text},
            {"type": "text/html", "value": mail.html},
        ],
        "headers": {"Message-ID": f"<{mail.message_id}>"}
        | {name: one_line(value) for name, value in mail.headers.items()},
    }
    files = [
        {
            "content": part.base64,
            "type": part.content_type,
            "filename": part.name,
            "disposition": "inline" if part.content_id else "attachment",
        }
        | ({"content_id": part.content_id} if part.content_id else {})
        for part in (*mail.attachments, *mail.inline)
    ]
    return body | ({"attachments": files} if files else {})


def _failure(response: "httpx.Response") -> WorkError:  # noqa: PLR0911 - a table of answers
    errors = [error for error in (find_json(response) or {}).get("errors") or () if isinstance(error, dict)]
    field = str(errors[0].get("field") or "") if errors else ""
    detail = f"HTTP {response.status_code} {errors[0].get('message') if errors else ''}"[:300].rstrip()
    wait = parse_retry_after(response.headers, WAIT_LONGEST)
    match response.status_code:
        case 429:
            return mail_throttled("sendgrid", detail, wait or _until_reset(response))
        case 401:
            if "credit" in detail.lower():
                return Misconfigured("sendgrid.no_credits", f"{detail}; raise the plan, then requeue")
            return Misconfigured("sendgrid.key_refused", f"{detail}; make a new API key and record it")
        case 403:
            return Misconfigured(
                "sendgrid.access_denied",
                f"{detail}; the key needs the permission Mail Send, the sender must be verified",
            )
        case 404 | 405:
            return Misconfigured("sendgrid.address_wrong", f"{detail}; check SENDGRID_API_BASE")
        case 413:
            return Refused("sendgrid.too_large", detail)
        case status if status >= 500:
            if errors or status == 503:
                return RetryLater("sendgrid.unavailable", detail, wait=wait)
            return OutcomeUnknown("sendgrid.no_answer", detail)
    if field.startswith("personalizations"):
        return Refused("sendgrid.recipient_refused", f"{detail} (field {field})")
    if field.startswith("from"):
        return Misconfigured("sendgrid.sender_refused", f"{detail} (field {field})")
    return Refused("sendgrid.refused", f"{detail} (field {field})" if field else detail)


def _until_reset(response: "httpx.Response") -> timedelta | None:
    """Return the time until ``X-RateLimit-Reset``, which is a moment in Unix seconds."""
    stated = response.headers.get("x-ratelimit-reset", "")
    if not stated.isdecimal():
        return None
    return timedelta(seconds=min(max(float(stated) - time.time(), 1.0), 3600.0))
