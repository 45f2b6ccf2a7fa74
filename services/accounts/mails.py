"""The mail about a person's own account: a link to a new password, or what changed."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from services.mail.compose import compose_mail
from services.mail.message import Mail, MailType
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
        "reset_notice": ("Your password was set by a link", f"Sign in with the new one. {_NOT_YOU}", ""),
        "change_notice": ("Your password was changed", _NOT_YOU, ""),
    }
)
"""Title, text and label of the link, by Flask-Security's name of the mail; ``invitation`` is ours."""


def plan_account_mail(name: str, recipient: str, link: str, now: datetime, reference: str) -> Mail | None:
    """Return the mail ``name``, which is sent once for each ``reference``; None for an unknown name."""
    if name not in _TEXTS:
        return None
    context = _plan(name, link, now)
    return compose_mail(ACCOUNT_MAIL, context, shop=None, recipient=recipient, period=reference)


def _plan(name: str, link: str, now: datetime) -> dict[str, Any]:
    title, lead, label = _TEXTS[name]
    return {"title": title, "lead": lead, "link": link, "label": label, "at": now}


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
