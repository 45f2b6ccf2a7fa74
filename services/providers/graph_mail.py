"""Sends mail from a Microsoft 365 mailbox through Graph's ``sendMail``, with the app's credentials.

Mail is sent as MIME: Graph's JSON takes only headers that begin with ``x-``. The response is an empty 202 and
there is no idempotency: after a call without a response only Sent Items show the outcome.
Sources: learn.microsoft.com, "user: sendMail", "Microsoft identity platform and the OAuth 2.0 client
credentials flow", "Microsoft Entra authentication and authorization error codes",
"Microsoft Graph service-specific throttling limits" (4 calls at once per mailbox).
"""

import base64
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from services.core.counts import format_count
from services.core.errors import Deferred, Misconfigured, OutcomeUnknown, Refused, RetryLater, WorkError
from services.core.fields import find_object
from services.providers.http import find_json, parse_retry_after, post
from services.providers.mime import render_mime
from services.providers.outgoing_mail import (
    WAIT_LONGEST,
    WAIT_UNSTATED,
    MailThrottled,
    MailTransport,
    OutgoingMail,
    format_sender,
    parse_sender,
)

if TYPE_CHECKING:
    import httpx

CALLS_AT_ONCE = 4
LARGEST_BYTES = 4 * 1024 * 1024
"""The largest request, base64 included."""
RENEW_BEFORE_SECONDS = 300.0

_AADSTS = re.compile(r"AADSTS(\d+)")
_SIGN_IN_ERRORS = {
    "7000222": (
        "client_secret_expired",
        "the client secret has expired: make a new one in the Entra admin center, under App "
        "registrations, Certificates & secrets, and record its value",
    ),
    "7000215": (
        "client_secret_wrong",
        "the app has no such client secret: record the secret's value, not its id",
    ),
    "700016": ("client_unknown", "the tenant has no such app: check the client id and the tenant id"),
    "90002": ("tenant_unknown", "there is no such tenant: check the tenant id"),
    "900023": ("tenant_unknown", "the tenant id is neither an id nor a domain"),
    "7000112": ("client_disabled", "the app is disabled in the tenant: an administrator can enable it"),
}
_NO_MAILBOX = frozenset(
    {"ErrorInvalidUser", "ResourceNotFound", "Request_ResourceNotFound", "MailboxNotEnabledForRESTAPI",
     "ErrorNonExistentMailbox"}
)  # fmt: skip


class GraphTransport(MailTransport):
    """Sends from one mailbox. Its access token is kept until shortly before it ends.

    ``options`` are ``tenant_id``, ``client_id``, ``mailbox``, ``graph_api_base`` and ``graph_login_base``.
    """

    def __init__(self, client_secret: str, options: Mapping[str, str]) -> None:
        self._client_secret, self._options = client_secret, options
        self._calls = threading.BoundedSemaphore(CALLS_AT_ONCE)
        self._token_lock = threading.Lock()
        self._token, self._token_ends = "", 0.0
        self._paused_until = 0.0

    def send(self, mail: OutgoingMail) -> str:
        """Return Graph's id of the request that accepted ``mail``, for Microsoft's support."""
        mailbox = self._options["mailbox"]
        sender = format_sender(parse_sender(mail.sender)[0], mailbox)
        content = base64.b64encode(render_mime(replace(mail, sender=sender)))
        if len(content) > LARGEST_BYTES:
            raise Refused(
                "graph.too_large",
                f"{format_count(len(content), 'byte')}: Graph takes at most {LARGEST_BYTES}",
            )
        with self._calls:
            # Graph may have requested a pause while this mail waited for a free call.
            seconds = self._paused_until - time.monotonic()
            if seconds > 0:
                raise Deferred("graph.throttled", "mailbox paused", wait=timedelta(seconds=seconds))
            response = self._post(mail, content, self._get_token())
            if response.status_code == 401:
                # The token was revoked early. Graph processed nothing, so a new token may be tried.
                response = self._post(mail, content, self._get_token(instead_of=self._token))
        if response.status_code == 202:
            return str(response.headers.get("request-id", ""))
        fault = _make_error(response, mailbox)
        if isinstance(fault, MailThrottled) and fault.wait is not None:
            self._paused_until = time.monotonic() + fault.wait.total_seconds()
        raise fault

    def check(self) -> str:
        """Sign the app in. Whether it may use the mailbox shows only when it sends."""
        self._get_token()
        return f"Microsoft signs the app {self._options['client_id']} in"

    def _post(self, mail: OutgoingMail, content: bytes, token: str) -> "httpx.Response":
        options = self._options
        url = f"{options['graph_api_base']}/v1.0/users/{quote(options['mailbox'])}/sendMail"
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "text/plain",
            "client-request-id": mail.idempotency_key,
        }
        return post("graph", url, headers, content=content)

    def _get_token(self, *, instead_of: str = "") -> str:
        with self._token_lock:
            if self._token and self._token != instead_of and time.monotonic() < self._token_ends:
                return self._token
            options = self._options
            url = f"{options['graph_login_base']}/{quote(options['tenant_id'])}/oauth2/v2.0/token"
            form = {
                "client_id": options["client_id"],
                "client_secret": self._client_secret,
                "scope": f"{options['graph_api_base']}/.default",
                "grant_type": "client_credentials",
            }
            try:
                response = post("graph", url, {}, data=form)
            except OutcomeUnknown as fault:  # no mail was sent
                raise RetryLater("graph.sign_in_unavailable", fault.detail) from fault
            body = find_json(response) or {}
            token = body.get("access_token")
            if response.status_code != 200 or not isinstance(token, str):
                raise _make_sign_in_error(response, body)
            seconds = float(body.get("expires_in") or 0)
            self._token = token
            self._token_ends = time.monotonic() + max(seconds - RENEW_BEFORE_SECONDS, seconds / 2)
            return token


def _make_sign_in_error(response: "httpx.Response", body: Mapping[str, Any]) -> WorkError:
    if response.status_code == 429 or response.status_code >= 500:
        return RetryLater(
            "graph.sign_in_unavailable",
            f"HTTP {response.status_code} from the sign-in service",
            wait=parse_retry_after(response.headers, WAIT_LONGEST),
        )
    found = _AADSTS.search(str(body.get("error_description") or ""))
    if found and found[1] in _SIGN_IN_ERRORS:
        code, meaning = _SIGN_IN_ERRORS[found[1]]
        return Misconfigured(f"graph.{code}", f"{meaning} ({found[0]})")
    reason = found[0] if found else str(body.get("error") or f"HTTP {response.status_code}")
    return Misconfigured("graph.sign_in_refused", f"Microsoft refuses to sign the app in: {reason}")


def _make_error(response: "httpx.Response", mailbox: str) -> WorkError:  # noqa: PLR0911 - a table of responses
    error = find_object(find_json(response) or {}, "error")
    code = str(error.get("code") or "")
    detail = f"HTTP {response.status_code} {code}: {error.get('message') or ''}"[:300].rstrip(": ")
    wait = parse_retry_after(response.headers, WAIT_LONGEST)
    match response.status_code:
        case 429:
            return MailThrottled("graph.throttled", detail, wait=wait or WAIT_UNSTATED)
        case 401:
            return Misconfigured("graph.token_refused", detail)
        case 403:
            return Misconfigured(
                "graph.access_denied", f"{detail}; give the app the permission Mail.Send, with admin consent"
            )
        case 413:
            return Refused("graph.too_large", detail)
        case 503:
            return RetryLater("graph.unavailable", detail, wait=wait)
        case status if status >= 500:
            return OutcomeUnknown("graph.no_answer", detail)
    if code in _NO_MAILBOX or response.status_code == 404:
        return Misconfigured("graph.mailbox_unknown", f"{detail}; is {mailbox!r} a mailbox of the tenant?")
    if code == "ErrorInvalidRecipients":
        return Refused("graph.recipient_refused", detail)
    if code == "ErrorSendAsDenied":
        return Misconfigured("graph.sender_refused", detail)
    return Refused("graph.refused", detail)
