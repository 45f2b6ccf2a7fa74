"""The mail about a person's own account: a link to a new password, or what changed."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection

from services.ledger.accept import record_work
from services.mail.compose import compose_mail
from services.mail.message import MailType
from services.mail.outbox import record_mails
from services.shops.shops import Shop

_NOT_YOU = (
    "If it was not you, ask an owner of the fleet to run `fleet users reset-mfa` and to end your sessions."
)

_TEXTS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "invitation": (
            "Set your password for Shopfleet",
            "You were added to the console of Shopfleet. The link works once, within an hour.",
            "Set a password",
        ),
        "reset_instructions": (
            "Set a new password for Shopfleet",
            "Somebody, probably you, asked for a link to set a new password. It works once, within an hour. "
            "If it was not you, ignore this mail: nothing changes.",
            "Set a new password",
        ),
        "reset_notice": (
            "Your password was set by a link",
            f"Your sessions and API tokens ended. Sign in with it. {_NOT_YOU}",
            "",
        ),
        "change_notice": ("Your password was changed", _NOT_YOU, ""),
        "codes_set_up": ("One-time codes were set up for your account", _NOT_YOU, ""),
        "codes_removed": ("One-time codes were removed from your account", _NOT_YOU, ""),
        "recovery_codes": (
            "New recovery codes were made for your account",
            f"The old ones do not work any more. {_NOT_YOU}",
            "",
        ),
        "recovery_code_used": ("A recovery code was used to sign in to your account", _NOT_YOU, ""),
        "factors_reset": (
            "Your second factors were deleted",
            "An owner of the fleet deleted your one-time codes, recovery codes and passkeys, and ended your "
            "sessions and API tokens. Sign in with your password and set them up again.",
            "",
        ),
        "passkey_added": ("A passkey was added to your account", _NOT_YOU, ""),
        "passkey_deleted": ("A passkey was deleted from your account", _NOT_YOU, ""),
        "new_address": ("A sign-in to your account from a new address", _NOT_YOU, ""),
    }
)
"""Title, text and label of the link by name; three names are Flask-Security's."""


def record_account_mail(
    tx: Connection,
    name: str,
    recipient: str,
    now: datetime,
    *,
    reference: str,
    link: str = "",
    address: str = "",
) -> None:
    """Record the mail ``name`` once for each ``reference``; nothing for an unknown name.

    ``address``: from where the change was made; empty for a command.
    """
    if name in _TEXTS:
        context = _plan(name, link, now, address)
        mail = compose_mail(
            ACCOUNT_MAIL, context, shop=None, recipient=recipient, period=f"{name}/{reference}"
        )
        record_work(tx, record_mails(tx, [mail], now), now)


def _plan(name: str, link: str, now: datetime, address: str = "") -> dict[str, Any]:
    title, lead, label = _TEXTS[name]
    return {"title": title, "lead": lead, "link": link, "label": label, "at": now, "address": address}


def _sample(_shop: Shop | None, now: datetime) -> Mapping[str, Any]:
    return _plan("reset_instructions", "https://console.example.com/sign-in/forgot/EXAMPLE", now)


ACCOUNT_MAIL = MailType(
    name="account",
    package="services.accounts",
    about="a link to set a password, or what changed in a person's account",
    reader="person who signs in",
    why="You get this because you have an account at this console.",
    sample=_sample,
)
