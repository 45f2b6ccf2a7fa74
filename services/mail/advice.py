"""What a person does about a mail that is not sent: from an error code to a command. Pure."""

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
"""The setting with the fleet's own credential."""

_CREDENTIAL = frozenset(
    {"key_refused", "credentials_refused", "client_secret_expired", "client_secret_wrong", "token_refused",
     "sign_in_refused", "no_secret", "secret_unreadable", "url_wrong", "not_offered", "certificate_wrong",
     "no_tls"}
)  # fmt: skip
_ACCOUNT = frozenset({"client_unknown", "tenant_unknown", "mailbox_unknown", "incomplete"})
_SENDER = frozenset({"sender_refused", "sender_invalid"})
_AT_THE_SERVICE = frozenset({"access_denied", "client_disabled", "no_credits", "refuses_us"})
_READER = frozenset({"recipient_refused", "address_invalid"})
_TEMPORARY = frozenset({"unavailable", "busy", "throttled", "paced", "concurrent", "sign_in_unavailable"})


class MailSender(NamedTuple):
    """The transport of a shop's mail. No ``slug``: the fleet's; ``is_own``: the shop's account."""

    provider: str
    slug: str = ""
    is_own: bool = False


def plan_advice(code: str, sender: MailSender) -> str:
    """Return what to do about ``code``, with the command for it; empty if only its details help."""
    reason = code.partition(".")[2]
    if reason in _READER:
        return "this address cannot be written to: check it with its owner"
    if reason in _TEMPORARY or reason.endswith("quota_exceeded"):
        return "nothing: it is tried again by itself"
    if sender.provider not in SECRETS and reason != "transport_unknown":
        return ""
    repair = _plan_repair(reason, sender)
    shop = f" --shop {sender.slug}" if sender.slug else ""
    return f"{repair}; then fleet mail test ADDRESS{shop}, and for what is dead {REQUEUE}" if repair else ""


def _plan_repair(reason: str, sender: MailSender) -> str:
    transport, name = f"fleet mail transport {sender.slug}", sender.provider
    repair = ""
    if reason in _CREDENTIAL:
        own_secret = f"fleet shops secret {sender.slug} {SECRETS[name]} --stdin"
        repair = own_secret if sender.is_own else _set(_SETTING.get(name, "MAIL_TRANSPORT"))
    elif reason in _ACCOUNT:
        own_account = f"{transport} --tenant-id ... --client-id ... --mailbox ..."
        fleets = "GRAPH_TENANT_ID, GRAPH_CLIENT_ID or GRAPH_SENDER"
        repair = own_account if sender.is_own else _set(fleets)
    elif reason in _SENDER:
        other = f"{transport} --sender ..." if sender.slug else _set("MAIL_FROM")
        repair = f"let us send as this sender there, or {other}"
    elif reason in _AT_THE_SERVICE:
        repair = f"repair it at {name}, or change the account"
    elif reason == "transport_unknown":
        repair = f"{transport} --use ..."
    elif reason == "address_wrong":
        repair = _set(f"{name.upper()}_API_BASE")
    elif reason == "not_writable":
        repair = "let the workers write into MAIL_FOLDER"
    return repair


def _set(names: str) -> str:
    return f"set {names} and restart the workers"
