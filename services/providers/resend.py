"""Mail through Resend's ``POST /emails``, under an idempotency key that Resend keeps for 24 hours.

Source: Resend's OpenAPI; error names: resend-python 2.52.0; the key's life: resend.com/docs, "Idempotency
keys".
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from services.core.errors import Misconfigured, OutcomeUnknown, Refused, WorkError
from services.providers.mail_http import (
    base64_content,
    find_body,
    http_client,
    post,
    stated_wait,
    throttled,
)
from services.providers.outgoing_mail import (
    AlreadySubmitted,
    MailThrottled,
    OutgoingMail,
    ascii_address,
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
        self._http = http or http_client()

    def __repr__(self) -> str:
        return f"ResendTransport({self._url!r})"

    def send(self, letter: OutgoingMail) -> str:
        """Resend has taken charge of ``letter``, once however often it is told; return its id."""
        headers = {
            "Authorization": f"Bearer {self._api_key}",
            "Content-Type": "application/json",
            "Idempotency-Key": letter.idempotency_key,
        }
        response = post("resend", self._http, self._url, headers, json=request_body(letter))
        if response.status_code != 200:
            raise _failure(response)
        return str(find_body(response).get("id") or "")

    def close(self) -> None:
        """The connections are the process's; nothing is to do."""


def request_body(letter: OutgoingMail) -> dict[str, Any]:
    """Return what Resend is asked for. Pure: the same letter, the same body, as the key demands."""
    name, address = parse_sender(letter.sender)
    body: dict[str, Any] = {
        "from": quoted_sender(name, address),
        "to": [ascii_address(letter.recipient)],
        "subject": one_line(letter.subject),
        "text": letter.text,
        "html": letter.html,
        "headers": {"Message-ID": f"<{letter.message_id}>"}
        | {name: one_line(value) for name, value in letter.headers.items()},
    }
    files = [
        {"content": base64_content(part), "filename": part.name, "content_type": part.content_type}
        | ({"content_id": part.content_id} if part.content_id else {})
        for part in (*letter.attachments, *letter.inline)
    ]
    return body | ({"attachments": files} if files else {})


def _failure(response: "httpx.Response") -> WorkError:  # noqa: PLR0911 - a table of answers
    body = find_body(response)
    name = str(body.get("name") or "")
    told = str(body.get("message") or "")
    said = f"HTTP {response.status_code} {name}: {told}"[:300].rstrip(": ")
    if name.endswith("_quota_exceeded"):
        return MailThrottled(
            f"resend.{name}", f"{said}; it goes on when the quota is renewed", wait=QUOTA_WAIT
        )
    match response.status_code:
        case 429:
            return throttled("resend", said, stated_wait(response))
        case 409 if name == "concurrent_idempotent_requests":
            return OutcomeUnknown("resend.concurrent", said)
        case 409:
            return AlreadySubmitted("resend.key_reused", f"{said}; it went out before with other words")
        case 401:
            return Misconfigured("resend.key_refused", f"{said}; make a new API key and record it")
        case 403 if "domain" in told.lower():
            return Misconfigured("resend.sender_refused", f"{said}; verify the sender's domain at Resend")
        case 403:
            return Misconfigured("resend.key_refused", f"{said}; make a new API key and record it")
        case 404 | 405:
            return Misconfigured("resend.address_wrong", f"{said}; check RESEND_API_BASE")
        case status if status >= 500:
            return OutcomeUnknown("resend.no_answer", said)
    if "`to`" in told:
        return Refused("resend.recipient_refused", said)
    if "`from`" in told:
        return Misconfigured("resend.sender_refused", said)
    return Refused("resend.refused", said)
