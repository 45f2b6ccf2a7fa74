"""The words of the mail about a day's breaks. Pure: what is known goes in, a mail comes out."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from services.core.money import MoneyInvalid, format_minor

if TYPE_CHECKING:
    from jinja2 import Environment

LINES = 200
"""A mail lists this many breaks and counts the rest."""

_WHAT = MappingProxyType(
    {
        "missing_here": "Stripe has this payment, our books do not",
        "missing_there": "our books have this payment, Stripe does not",
        "amount": "the amounts differ",
        "currency": "the currencies differ",
        "status": "the states differ",
    }
)


_SEVEN_BIT = SMTP.clone(cte_type="7bit")
"""Any server takes it, also one that knows no 8BITMIME."""

_PLAIN = """\
{{ shop }}: {{ day }} does not agree with Stripe.
{{ count }} {{ "difference" if count == 1 else "differences" }}:
{% for row in rows %}
{{ row.provider_id }}
  {{ row.what }}
  here:      {{ row.ours }}
  at Stripe: {{ row.theirs }}
{% endfor %}
{%- if more %}
and {{ more }} more.
{% endif %}
Nothing was changed. The next reconciliation of this day closes what agrees by then.
"""


class OpenBreak(NamedTuple):
    """A break as it is kept: both sides as JSON, None where a side has nothing."""

    kind: str
    provider_id: str
    ours: Mapping[str, Any] | None
    theirs: Mapping[str, Any] | None


def compose_break_mail(
    *, work_id: int, shop: str, day: date, breaks: Sequence[OpenBreak], to: str, sender: str, now: datetime
) -> EmailMessage:
    """Return the mail that lists ``breaks``, in plain text and HTML.

    Its ``Message-ID`` is made of the work item's id: a mail that goes out twice after a lost answer is
    one mail to a reader that knows both.
    """
    name = " ".join(shop.split())
    facts = {
        "shop": name,
        "day": day.isoformat(),
        "count": len(breaks),
        "rows": [_row(found) for found in breaks[:LINES]],
        "more": max(0, len(breaks) - LINES),
    }
    message = EmailMessage(_SEVEN_BIT)
    message["From"] = sender
    message["To"] = to
    message["Subject"] = f"{name}: {day.isoformat()} does not agree with Stripe ({len(breaks)})"
    message["Date"] = format_datetime(now)
    message["Message-ID"] = f"<reconciliation-mail.{work_id}@{_domain(sender)}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_templates().from_string(_PLAIN).render(facts))
    message.add_alternative(_templates().get_template("break_mail.html").render(facts), subtype="html")
    return message


def _row(found: OpenBreak) -> dict[str, str]:
    return {
        "provider_id": found.provider_id,
        "what": _WHAT.get(found.kind, found.kind),
        "ours": _side(found.ours),
        "theirs": _side(found.theirs),
    }


def _side(charge: Mapping[str, Any] | None) -> str:
    if charge is None:
        return "nothing"
    try:
        amount = format_minor(charge["amount_cents"], charge["currency"])
    except MoneyInvalid:
        amount = f"{charge['amount_cents']} minor units of {charge['currency']}"
    return f"{amount}, {charge['status']}"


def _domain(sender: str) -> str:
    return parseaddr(sender)[1].rpartition("@")[2] or "localhost"


@cache
def _templates() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    return Environment(
        loader=PackageLoader("services.books"),
        autoescape=select_autoescape(["html"], default_for_string=False),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
