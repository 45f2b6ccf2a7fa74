"""Mail through SendGrid's ``/v3/mail/send`` and Resend's ``POST /emails``: one request per mail.

Resend keeps an idempotency key for 24 hours. SendGrid has none: our id is in ``custom_args``, which its
activity feed and event webhooks contain; Resend's events contain ``tags``. Sources: SendGrid's OpenAPI of
mail/send; Resend's OpenAPI; error names: resend-python 2.52.0; the key's lifetime: resend.com/docs,
"Idempotency keys".
"""

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from services.core.errors import Misconfigured, OutcomeUnknown, Refused, RetryLater, WorkError
from services.providers.call_outcomes import noted_call
from services.providers.http import find_json, get, parse_retry_after, post
from services.providers.mail_event_payload import MAIL_KEY, MAIL_REFERENCE
from services.providers.outgoing_mail import (
    WAIT_LONGEST,
    WAIT_UNSTATED,
    AlreadySubmitted,
    MailThrottled,
    MailTransport,
    OutgoingMail,
    ascii_address,
    format_sender,
    one_line,
    parse_sender,
)

if TYPE_CHECKING:
    import httpx

QUOTA_WAIT = timedelta(hours=3)
"""The wait when a quota is used up: some tries a day, and one soon after it is raised."""


class SendGridTransport(MailTransport):
    """Sends through one account, or subuser, of SendGrid."""

    def __init__(self, api_key: str, api_base: str) -> None:
        self._headers, self._url = _make_headers(api_key), f"{api_base}/v3/mail/send"
        self._scopes_url = f"{api_base}/v3/scopes"

    def send(self, mail: OutgoingMail) -> str:
        """Return SendGrid's ``X-Message-Id`` of the accepted ``mail``."""
        response = post("sendgrid", self._url, self._headers, content=orjson.dumps(make_sendgrid_body(mail)))
        if response.status_code != 202:
            raise _make_sendgrid_error(response)
        return str(response.headers.get("x-message-id", ""))

    def check(self) -> str:
        """Read the key's permissions. Source: SendGrid API, "Retrieve a list of scopes"."""
        response = get("sendgrid", self._scopes_url, self._headers)
        if response.status_code != 200:
            raise _make_sendgrid_error(response)
        if "mail.send" not in ((find_json(response) or {}).get("scopes") or ()):
            raise Misconfigured(
                "sendgrid.access_denied", "the key lacks the permission Mail Send (mail.send)"
            )
        return "SendGrid accepts the key, which may send"


MAIL_UNKNOWN = "resend.mail_unknown"


class ResendTransport(MailTransport):
    """Sends through one team of Resend."""

    def __init__(self, api_key: str, api_base: str) -> None:
        self._headers, self._url = _make_headers(api_key), f"{api_base}/emails"
        self._domains_url = f"{api_base}/domains"

    def send(self, mail: OutgoingMail) -> str:
        """Return Resend's id of the accepted ``mail``; a repeat under its key is accepted once."""
        headers = {**self._headers, "Idempotency-Key": mail.idempotency_key}
        response = post("resend", self._url, headers, content=orjson.dumps(make_resend_body(mail)))
        if response.status_code != 200:
            raise _make_resend_error(response)
        return str((find_json(response) or {}).get("id") or "")

    def fetch_received(self, email_id: str) -> dict[str, Any]:
        """Return a mail that Resend received, with its ``text``; raise ``Refused`` with ``MAIL_UNKNOWN``."""
        with noted_call("resend", "receiving"):
            response = get("resend", f"{self._url}/receiving/{quote(email_id, safe='')}", self._headers)
            if response.status_code == 404:
                raise Refused(MAIL_UNKNOWN, "HTTP 404: Resend has no such received mail")
            if response.status_code != 200:
                raise _make_resend_error(response)
        return find_json(response) or {}

    def check(self) -> str:
        """List the domains; a key that may only send is refused by name, and works."""
        response = get("resend", self._domains_url, self._headers)
        only_sends = (find_json(response) or {}).get("name") == "restricted_api_key"
        if response.status_code != 200 and not only_sends:
            raise _make_resend_error(response)
        return "Resend accepts the key, which may only send" if only_sends else "Resend accepts the key"


def make_sendgrid_body(mail: OutgoingMail) -> dict[str, Any]:
    name, address = parse_sender(mail.sender)
    to = {
        "to": [{"email": ascii_address(mail.recipient)}],
        "custom_args": _make_references(mail),
    }
    body = {
        "personalizations": [to],
        "from": {"email": address, "name": name} if name else {"email": address},
        "content": [{"type": "text/plain", "value": mail.text}, {"type": "text/html", "value": mail.html}],
    }
    return body | _make_common_fields(mail, "type", has_disposition=True)


def make_resend_body(mail: OutgoingMail) -> dict[str, Any]:
    """Return the body of a request to Resend. Pure: a key requires the same body each time."""
    body = {
        "from": format_sender(*parse_sender(mail.sender)),
        "to": [ascii_address(mail.recipient)],
        "text": mail.text,
        "html": mail.html,
        "tags": [{"name": name, "value": value} for name, value in _make_references(mail).items()],
    }
    return body | _make_common_fields(mail, "content_type", has_disposition=False)


def _make_references(mail: OutgoingMail) -> dict[str, str]:
    """Return our ids of ``mail``, which the service repeats in its events."""
    references = {MAIL_REFERENCE: mail.reference, MAIL_KEY: mail.idempotency_key}
    return {name: value for name, value in references.items() if value}


def _make_headers(api_key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}


def _make_common_fields(mail: OutgoingMail, type_field: str, *, has_disposition: bool) -> dict[str, Any]:
    files: list[dict[str, str]] = []
    for part in (*mail.attachments, *mail.inline):
        file = {"content": part.base64, "filename": part.name, type_field: part.content_type}
        if has_disposition:
            file["disposition"] = "inline" if part.content_id else "attachment"
        files.append(file | ({"content_id": part.content_id} if part.content_id else {}))
    headers = {name: one_line(value) for name, value in mail.headers.items()}
    fields = {"subject": one_line(mail.subject), "headers": {"Message-ID": f"<{mail.message_id}>", **headers}}
    return fields | ({"attachments": files} if files else {})


def _make_sendgrid_error(response: "httpx.Response") -> WorkError:  # noqa: PLR0911 - a table of responses
    errors = [error for error in (find_json(response) or {}).get("errors") or () if isinstance(error, dict)]
    field = str(errors[0].get("field") or "") if errors else ""
    detail = f"HTTP {response.status_code} {errors[0].get('message') if errors else ''}"[:300].rstrip()
    wait = parse_retry_after(response.headers, WAIT_LONGEST)
    match response.status_code:
        case 429:
            wait = wait or _find_reset_wait(response) or WAIT_UNSTATED
            return MailThrottled("sendgrid.throttled", detail, wait=wait)
        case 401 if "credit" in detail.lower():
            return Misconfigured("sendgrid.no_credits", f"{detail}; change the plan, then requeue")
        case 401 | 404 | 405:
            return _make_credential_error("sendgrid", response.status_code, detail)
        case 403:
            return Misconfigured(
                "sendgrid.access_denied",
                f"{detail}; the key needs the permission Mail Send, the sender must be verified",
            )
        case 413:
            return Refused("sendgrid.too_large", detail)
        case status if status >= 500:
            if errors or status == 503:
                return RetryLater("sendgrid.unavailable", detail, wait=wait)
            return OutcomeUnknown("sendgrid.no_answer", detail)
    detail = f"{detail} (field {field})" if field else detail
    if field.startswith("personalizations"):
        return Refused("sendgrid.recipient_refused", detail)
    if field.startswith("from"):
        return Misconfigured("sendgrid.sender_refused", detail)
    return Refused("sendgrid.refused", detail)


def _make_resend_error(response: "httpx.Response") -> WorkError:  # noqa: PLR0911 - a table of responses
    body = find_json(response) or {}
    name, message = str(body.get("name") or ""), str(body.get("message") or "")
    detail = f"HTTP {response.status_code} {name}: {message}"[:300].rstrip(": ")
    if name.endswith("_quota_exceeded"):
        detail = f"{detail}; sending continues when the quota is renewed"
        return MailThrottled(f"resend.{name}", detail, wait=QUOTA_WAIT)
    match response.status_code:
        case 429:
            wait = parse_retry_after(response.headers, WAIT_LONGEST) or WAIT_UNSTATED
            return MailThrottled("resend.throttled", detail, wait=wait)
        case 409 if name == "concurrent_idempotent_requests":
            return OutcomeUnknown("resend.concurrent", detail)
        case 409:
            return AlreadySubmitted("resend.key_reused", f"{detail}; the key was used for another text")
        case 403 if "domain" in message.lower():
            return Misconfigured("resend.sender_refused", f"{detail}; verify the sender's domain at Resend")
        case 401 | 403 | 404 | 405:
            return _make_credential_error("resend", response.status_code, detail)
        case status if status >= 500:
            return OutcomeUnknown("resend.no_answer", detail)
    if "`to`" in message:
        return Refused("resend.recipient_refused", detail)
    if "`from`" in message:
        return Misconfigured("resend.sender_refused", detail)
    return Refused("resend.refused", detail)


def _make_credential_error(service: str, status: int, detail: str) -> Misconfigured:
    if status in (404, 405):
        return Misconfigured(f"{service}.address_wrong", f"{detail}; check {service.upper()}_API_BASE")
    return Misconfigured(f"{service}.key_refused", f"{detail}; make a new API key and record it")


def _find_reset_wait(response: "httpx.Response") -> timedelta | None:
    """Return the time until ``X-RateLimit-Reset``, which is a time in Unix seconds."""
    stated = response.headers.get("x-ratelimit-reset", "")
    if not stated.isdecimal():
        return None
    return timedelta(seconds=min(max(float(stated) - time.time(), 1.0), 3600.0))
