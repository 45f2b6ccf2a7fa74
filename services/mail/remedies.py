"""Remedies: what a person does about an error code of a connection or of a mail, with the command. Pure."""

from collections.abc import Mapping
from typing import NamedTuple

from services.mail.transports import SECRETS

_INSTALL = (
    "install the app again in the shop's admin, then fleet shops secret {shop} shopify-token --stdin and "
    "fleet shops secret {shop} shopify-refresh-token --stdin"
)
_CLIENT = (
    "fleet shops secret {shop} shopify-client-id --stdin and "
    "fleet shops secret {shop} shopify-client-secret --stdin"
)
_OWNER = "the shop's owner must resolve this with Shopify"
_WRONG_DOMAIN = "fleet shops set {shop} --shopify-domain NAME.myshopify.com"
_CONNECT_TIME = "an admin connects QuickBooks Time again on the page /shops/{shop} of the console"
_TIME_CLIENT = (
    "fleet shops secret {shop} quickbooks-time-client-id --stdin and "
    "fleet shops secret {shop} quickbooks-time-client-secret --stdin, then " + _CONNECT_TIME
)
REMEDIES: Mapping[str, str] = {
    "shopify.token_refused": "fleet shops secret {shop} shopify-token --stdin",
    "shopify.token_unreadable": "fleet shops secret {shop} shopify-token --stdin",
    "shopify.refresh_refused": _INSTALL,
    "shopify.uninstalled": _INSTALL,
    "shopify.client_refused": _CLIENT,
    "shopify.no_client": _CLIENT,
    "shopify.access_denied": "give the app the scope for {resource}, then " + _INSTALL,
    "shopify.address_wrong": _WRONG_DOMAIN,
    "shopify.shop_frozen": _OWNER,
    "shopify.shop_locked": _OWNER,
    "quickbooks_time.token_refused": _CONNECT_TIME,
    "quickbooks_time.token_unreadable": _CONNECT_TIME,
    "quickbooks_time.refresh_refused": _CONNECT_TIME,
    "quickbooks_time.access_denied": _CONNECT_TIME,
    "quickbooks_time.client_refused": _TIME_CLIENT,
    "quickbooks_time.no_client": _TIME_CLIENT,
    "quickbooks_time.not_paid": "the company pays its QuickBooks Time subscription",
    "quickbooks_time.address_wrong": "set QUICKBOOKS_TIME_API_BASE and restart the workers",
    "stripe.key_refused": (
        "fleet shops secret {shop} stripe-key --stdin records a key that may read charges, refunds, "
        "disputes, payouts, balance and events"
    ),
    "stripe.no_key": "fleet shops secret {shop} stripe-key --stdin",
    "notion.key_refused": "fleet shops secret {shop} notion-key --stdin",
    "notion.no_key": "fleet shops secret {shop} notion-key --stdin",
    "notion.key_unreadable": "fleet shops secret {shop} notion-key --stdin",
    "notion.access_denied": "give the connection at Notion read, insert and update of content",
    "notion.no_data_source": "fleet shops set {shop} --notion-data-source ID",
    "notion.property_missing": "add the text property 'Merchant UUID' to the data source at Notion",
    "notion.data_source_not_shared": (
        "open the data source of fleet shops show {shop} at Notion and add the connection to it under "
        "Connections, or fleet shops set {shop} --notion-data-source ID"
    ),
    "quo.key_refused": "fleet shops secret {shop} quo-key --stdin",
    "quo.no_key": "fleet shops secret {shop} quo-key --stdin",
    "quo.key_unreadable": "fleet shops secret {shop} quo-key --stdin",
    "quo.access_denied": "fleet shops secret {shop} quo-key --stdin, with a key that may read {resource}",
    "twilio.credentials_refused": "fleet shops secret {shop} twilio-credentials --stdin",
    "twilio.account_unknown": "fleet shops secret {shop} twilio-credentials --stdin",
    "twilio.access_denied": "fleet shops secret {shop} twilio-credentials --stdin, with the auth token",
}
"""What to do about each error code of a shop's provider. A test compares it with the providers' codes."""

_REPAIRS = (
    (
        "key_refused credentials_refused client_secret_expired client_secret_wrong token_refused "
        "sign_in_refused no_secret secret_unreadable url_wrong host_unknown "
        "not_offered certificate_wrong no_tls",
        "fleet shops secret {slug} {secret} --stdin",
        "set {setting} and restart the workers",
    ),
    (
        "client_unknown tenant_unknown mailbox_unknown incomplete",
        "fleet mail transport --shop {slug} --tenant-id ... --client-id ... --mailbox ...",
        "set GRAPH_TENANT_ID, GRAPH_CLIENT_ID or GRAPH_SENDER and restart the workers",
    ),
    (
        "sender_refused sender_invalid",
        "allow this sender at {name}, or fleet mail transport --shop {slug} --sender ...",
        "allow this sender at {name}, or set MAIL_FROM and restart the workers",
    ),
    ("access_denied client_disabled no_credits refuses_us", "repair it at {name}, or change the account", ""),
    ("transport_unknown", "fleet mail transport --shop {slug} --use ...", ""),
    ("address_wrong", "set {base} and restart the workers", ""),
    ("not_writable", "give the workers write access to MAIL_FOLDER", ""),
)
"""(reasons, what to do for the shop's own account, what to do for the fleet's; empty: the same)."""

_SETTINGS = {"smtp": "SMTP_URL", "graph": "GRAPH_CLIENT_SECRET", "file": "MAIL_TRANSPORT"}
_RECIPIENT = frozenset({"recipient_refused", "address_invalid"})
_TEMPORARY = frozenset({"unavailable", "busy", "throttled", "paced", "concurrent", "sign_in_unavailable"})


class MailSender(NamedTuple):
    """The transport of a shop's mail, or without ``slug`` the fleet's. ``is_own``: the shop's account."""

    provider: str
    slug: str = ""
    is_own: bool = False


def find_remedy(code: str, sender: MailSender) -> str:
    """Return what to do about ``code``, with the command for it; empty for an unknown code."""
    name, reason = sender.provider, code.partition(".")[2]
    if reason in _RECIPIENT:
        return "the mail server refuses this address: check it with its owner"
    if reason == "suppressed":
        return "correct the address; if it is right, fleet mail suppressions remove ADDRESS"
    if reason in _TEMPORARY or reason.endswith("quota_exceeded"):
        return "nothing: it is retried automatically"
    if name not in SECRETS and reason != "transport_unknown":
        return ""
    for reasons, own, fleets in _REPAIRS:
        if reason in reasons.split():
            is_own = bool(sender.slug) if reason.startswith("sender_") else sender.is_own
            values = {"slug": sender.slug, "name": name, "secret": SECRETS.get(name)}
            values |= {
                "setting": _SETTINGS.get(name, f"{name.upper()}_API_KEY"),
                "base": f"{name.upper()}_API_BASE",
            }
            repair = (own if is_own or not fleets else fleets).format(**values)
            shop = f" --shop {sender.slug}" if sender.slug else ""
            requeue = "celery -A tasks requeue --topic mail_send"
            return f"{repair}; then fleet mail test ADDRESS{shop}, and for dead items {requeue}"
    return ""
