"""What the mail about a day's breaks says. Pure: breaks as they are kept go in, a mail's facts come out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import groupby
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote

from services.core.csv_cells import BOM, CSV_TYPE, csv_line
from services.mail.formatting import change, money
from services.mail.message import Attachment
from services.payments.cause_texts import describe_cause

SHOWN = 32
"""Payments in the mail itself, the largest differences first: Gmail cuts off what is over 102 KB."""

_WHAT = MappingProxyType(
    {
        "missing_here": "Stripe has this payment, our books do not",
        "missing_there": "Our books have this payment, Stripe does not",
        "amount": "The amounts differ",
        "currency": "The currencies differ",
        "status": "The states differ",
        "duplicate": "The customer seems to have paid twice",
        "fee": "Stripe took another fee than expected",
        "unreadable": "Stripe’s entry cannot be read, so it was not compared",
    }
)


_PAGES = MappingProxyType({"charge": "payments/", "dispute": "disputes/", "payout": "payouts/"})
"""Where Stripe's dashboard shows what; all else it finds by its search."""

_STILL = frozenset({"failed", "pending", "canceled", "expired", "uncaptured", "requires_action", "prevented"})
"""States in which no money moved."""

_SIGNS = MappingProxyType({"charge": 1, "refund": -1, "dispute": -1})
"""What each subject does to what the shop was paid. A payout only moves its money on."""


class OpenBreak(NamedTuple):
    """A break as it is kept: both sides as JSON, None where a side has nothing."""

    kind: str
    provider_id: str
    ours: Mapping[str, Any] | None
    theirs: Mapping[str, Any] | None
    subject: str = "charge"
    cause: str = ""


def plan_break_context(day: date, breaks: Sequence[OpenBreak]) -> dict[str, Any]:
    """Return what a mail says of the breaks of a shop's ``day``.

    Several breaks of one payment (its amount and its state, say) are told as one. ``nets`` sums what was
    really paid, per currency: Stripe's side less ours.
    """
    charges = _by_charge(breaks)
    sums: Counter[str] = Counter()
    for found in charges:
        if "unreadable" in found.kinds:
            continue
        for side, sign in ((found.theirs, 1), (found.ours, -1)):
            if side is not None:
                sums[side["currency"]] += sign * _SIGNS.get(found.subject, 0) * _paid(side)
    largest = sorted(charges, key=lambda found: -max(_size(found.ours), _size(found.theirs)))[:SHOWN]
    return {
        "day": day,
        "count": len(charges),
        "charges": [_told(found) for found in largest],
        "more": max(0, len(charges) - SHOWN),
        "nets": [change(minor, currency) for currency, minor in sorted(sums.items())],
    }


def plan_break_attachments(day: date, breaks: Sequence[OpenBreak]) -> tuple[Attachment, ...]:
    """Return every break as CSV where the mail itself cannot show them all; else nothing.

    Amounts are integers of minor units. Ids and states are Stripe's; one that a spreadsheet would take
    for a formula is led by an apostrophe.
    """
    if len({found.provider_id for found in breaks}) <= SHOWN:
        return ()
    rows = [[found.provider_id, found.kind, *_cells(found.ours), *_cells(found.theirs)] for found in breaks]
    content = BOM + b"".join(csv_line(row) for row in (_COLUMNS, *rows))
    return (Attachment(name=f"breaks-{day.isoformat()}.csv", content_type=CSV_TYPE, content=content),)


_COLUMNS = (
    "payment", "difference", "our_minor_units", "our_currency", "our_status", "stripe_minor_units",
    "stripe_currency", "stripe_status",
)  # fmt: skip


class _Charge(NamedTuple):
    kinds: tuple[str, ...]
    provider_id: str
    ours: Mapping[str, Any] | None
    theirs: Mapping[str, Any] | None
    subject: str
    cause: str


def _by_charge(breaks: Sequence[OpenBreak]) -> list[_Charge]:
    ordered = sorted(breaks, key=lambda found: (found.provider_id, found.kind))
    charges = []
    for provider_id, group in groupby(ordered, key=lambda found: found.provider_id):
        several = list(group)
        kinds = tuple(found.kind for found in several)
        first = several[0]
        charges.append(_Charge(kinds, provider_id, first.ours, first.theirs, first.subject, first.cause))
    return charges


def _told(found: _Charge) -> dict[str, str]:
    what = "; ".join(_WHAT.get(kind, kind) for kind in found.kinds)
    return {
        "provider_id": found.provider_id,
        "url": _url(found),
        "what": what[:1] + what[1:].replace("; The", "; the"),
        "ours": _amount(found.ours),
        "our_status": found.ours["status"] if found.ours else "",
        "theirs": _amount(found.theirs),
        "their_status": found.theirs["status"] if found.theirs else "",
        "difference": _difference(found),
        "cause": describe_cause(found.cause).says if found.cause else "",
    }


def _url(found: _Charge) -> str:
    page = _PAGES.get(found.subject, "search?query=")
    return f"https://dashboard.stripe.com/{page}{quote(found.provider_id, safe='')}"


def _difference(found: _Charge) -> str:
    ours, theirs = found.ours, found.theirs
    if "unreadable" in found.kinds:
        return "not compared"
    if ours and theirs and found.kinds == ("fee",):
        return change(theirs["fee_cents"] - ours["fee_cents"], theirs["currency"])
    if ours and theirs and ours["currency"] != theirs["currency"]:
        return "other currency"
    if ours and theirs and ours["status"] == theirs["status"]:
        return change(theirs["amount_cents"] - ours["amount_cents"], ours["currency"])
    currency = (ours or theirs or {})["currency"]
    return change((_paid(theirs) if theirs else 0) - (_paid(ours) if ours else 0), currency)


def _amount(side: Mapping[str, Any] | None) -> str:
    if side is None:
        return "nothing"
    fee = f", fee {money(side['fee_cents'], side['currency'])}" if "fee_cents" in side else ""
    return f"{money(side['amount_cents'], side['currency'])}{fee}"


def _paid(side: Mapping[str, Any]) -> int:
    return (
        0 if side["status"] in _STILL or side["status"].startswith("warning") else int(side["amount_cents"])
    )


def _size(side: Mapping[str, Any] | None) -> int:
    return 0 if side is None else abs(int(side["amount_cents"]))


def _cells(side: Mapping[str, Any] | None) -> list[str]:
    return ["", "", ""] if side is None else [str(side["amount_cents"]), side["currency"], side["status"]]


def sample_breaks(currency: str) -> list[OpenBreak]:
    """Return breaks that a preview shows."""

    def side(minor: int, status: str = "paid") -> dict[str, Any]:
        return {"amount_cents": minor, "currency": currency, "status": status}

    return [
        OpenBreak("missing_here", "ch_3QK8fT2eZvKYlo2C1gX0aTnq", None, side(12_900), cause="lost_webhook"),
        OpenBreak("amount", "ch_3QK8hB2eZvKYlo2C0mPq7cWd", side(124_950), side(119_950)),
        OpenBreak("status", "ch_3QK8kR2eZvKYlo2C1uYb3dSs", side(4_800), side(4_800, "failed")),
    ]
