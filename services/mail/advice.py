"""What a person does about a mail that does not go: from a code to a command. Pure."""

from types import MappingProxyType
from typing import NamedTuple

from services.mail.transports import SECRETS

REQUEUE = "celery -A tasks requeue --topic mail_send"

_SETTING = MappingProxyType(
    {
        "smtp": "SMTP_URL",
        "graph": "GRAPH_CLIENT_SECRET",
        "sendgrid": "SENDGRID_API_KEY",
        "resend": "RESEND_API_KEY",
    }
)
"""Where the fleet's own credential is."""

_CREDENTIAL = frozenset(
    {"key_refused", "credentials_refused", "client_secret_expired", "client_secret_wrong", "token_refused",
     "sign_in_refused", "no_secret", "secret_unreadable", "url_wrong", "not_offered", "certificate_wrong",
     "no_tls"}
)  # fmt: skip
_ACCOUNT = frozenset({"client_unknown", "tenant_unknown", "mailbox_unknown", "incomplete"})
_SENDER = frozenset({"sender_refused", "sender_invalid"})
_AT_THE_SERVICE = frozenset({"access_denied", "client_disabled", "no_credits", "refuses_us"})
_READER = frozenset({"recipient_refused", "address_invalid"})
_BY_ITSELF = frozenset({"unavailable", "busy", "throttled", "paced", "concurrent", "sign_in_unavailable"})


class MailSender(NamedTuple):
    """Whose mail leaves how: ``slug`` is empty for the fleet's own, ``is_own`` says whose the account is."""

    provider: str
    slug: str = ""
    is_own: bool = False


def plan_advice(code: str, way: MailSender) -> str:
    """Return what to do about ``code``, with the command for it; empty where only the words of it help."""
    word = code.partition(".")[2]
    if word in _READER:
        return "this address cannot be written to: check it with its owner"
    if word in _BY_ITSELF or word.endswith("quota_exceeded"):
        return "nothing: it is tried again by itself"
    if way.provider not in SECRETS and word != "transport_unknown":
        return ""
    mend = _plan_mending(word, way)
    return f"{mend}; then {_test(way)}, and for what is dead {REQUEUE}" if mend else ""


def _plan_mending(word: str, way: MailSender) -> str:
    own = f"fleet mail transport {way.slug}"
    mend = ""
    if word in _CREDENTIAL:
        own_secret = f"fleet shops secret {way.slug} {SECRETS[way.provider]} --stdin"
        mend = own_secret if way.is_own else _set(_SETTING.get(way.provider, "MAIL_TRANSPORT"))
    elif word in _ACCOUNT:
        own_account = f"{own} --tenant-id ... --client-id ... --mailbox ..."
        mend = own_account if way.is_own else _set("GRAPH_TENANT_ID, GRAPH_CLIENT_ID or GRAPH_SENDER")
    elif word in _SENDER:
        other = f"{own} --sender ..." if way.slug else _set("MAIL_FROM")
        mend = f"let us send as this sender there, or {other}"
    elif word in _AT_THE_SERVICE:
        mend = f"mend it at {way.provider}, or change the account"
    elif word == "transport_unknown":
        mend = f"{own} --use ..."
    elif word == "address_wrong":
        mend = _set(f"{way.provider.upper()}_API_BASE")
    elif word == "not_writable":
        mend = "let the workers write into MAIL_FOLDER"
    return mend


def _set(names: str) -> str:
    return f"set {names} and restart the workers"


def _test(way: MailSender) -> str:
    return f"fleet mail test ADDRESS --shop {way.slug}" if way.slug else "fleet mail test ADDRESS"
