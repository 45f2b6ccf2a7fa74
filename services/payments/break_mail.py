"""The template context and the CSV attachment of a mail about a day's breaks. Pure."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import groupby
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote

from services.core.csv_cells import CSV_TYPE, csv_file
from services.mail.formatting import change, money
from services.mail.message import Attachment
from services.payments.breaks import PaymentBreak
from services.payments.cause_texts import describe_cause

Side = Mapping[str, Any]

MAX_MAILED = 20_000
"""Breaks of one day. With more the attachment would be larger than mail servers accept."""

MAX_SHOWN = 32
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
"""Pages of Stripe's dashboard; its search finds everything else."""

_UNMOVED = frozenset(
    {"failed", "pending", "canceled", "expired", "uncaptured", "requires_action", "prevented"}
)
"""Statuses in which no money moved."""

_SIGNS = MappingProxyType({"charge": 1, "refund": -1, "dispute": -1})
"""The effect of each subject on what the shop was paid. A payout only moves that money on."""

_COLUMNS: Mapping[str, Callable[[PaymentBreak], object]] = MappingProxyType(
    {
        "payment": lambda found: found.provider_id,
        "difference": lambda found: found.kind,
        "our_minor_units": lambda found: (found.ours or {}).get("amount_cents"),
        "our_currency": lambda found: (found.ours or {}).get("currency"),
        "our_status": lambda found: (found.ours or {}).get("status"),
        "stripe_minor_units": lambda found: (found.theirs or {}).get("amount_cents"),
        "stripe_currency": lambda found: (found.theirs or {}).get("currency"),
        "stripe_status": lambda found: (found.theirs or {}).get("status"),
    }
)


class _Payment(NamedTuple):
    """The breaks of one payment: their kinds, and the first of them."""

    kinds: tuple[str, ...]
    first: PaymentBreak


def plan_break_context(day: date, breaks: Sequence[PaymentBreak]) -> dict[str, Any]:
    """Return the template context of the breaks of a shop's ``day``.

    Several breaks of one payment (its amount and its status, say) are one entry. ``nets`` sums Stripe's side
    less ours, per currency, of what was really paid.
    """
    payments = _by_payment(breaks)
    sums: Counter[str] = Counter()
    for payment in payments:
        if "unreadable" not in payment.kinds:
            sign = _SIGNS.get(payment.first.subject, 0)
            for side, direction in ((payment.first.theirs, 1), (payment.first.ours, -1)):
                if side is not None:
                    sums[side["currency"]] += direction * sign * _paid(side)
    largest = sorted(payments, key=lambda each: -max(_size(each.first.ours), _size(each.first.theirs)))
    return {
        "day": day,
        "count": len(payments),
        "charges": [_payment_context(payment) for payment in largest[:MAX_SHOWN]],
        "more": max(0, len(payments) - MAX_SHOWN),
        "nets": [change(minor, currency) for currency, minor in sorted(sums.items())],
    }


def plan_break_attachments(day: date, breaks: Sequence[PaymentBreak]) -> tuple[Attachment, ...]:
    """Return all breaks as one CSV file if the mail itself cannot show them all; else nothing."""
    if len({found.provider_id for found in breaks}) <= MAX_SHOWN:
        return ()
    content = b"".join(csv_file(_COLUMNS, breaks))
    return (Attachment(name=f"breaks-{day.isoformat()}.csv", content_type=CSV_TYPE, content=content),)


def _by_payment(breaks: Sequence[PaymentBreak]) -> list[_Payment]:
    ordered = sorted(breaks, key=lambda found: (found.provider_id, found.kind))
    groups = (list(group) for _, group in groupby(ordered, key=lambda found: found.provider_id))
    return [_Payment(tuple(found.kind for found in group), group[0]) for group in groups]


def _payment_context(payment: _Payment) -> dict[str, str]:
    ours, theirs, cause = payment.first.ours, payment.first.theirs, payment.first.cause
    what = "; ".join(_WHAT.get(kind, kind) for kind in payment.kinds)
    page = _PAGES.get(payment.first.subject, "search?query=")
    return {
        "provider_id": payment.first.provider_id,
        "url": f"https://dashboard.stripe.com/{page}{quote(payment.first.provider_id, safe='')}",
        "what": what[:1] + what[1:].replace("; The", "; the"),
        "ours": _amount(ours),
        "our_status": ours["status"] if ours else "",
        "theirs": _amount(theirs),
        "their_status": theirs["status"] if theirs else "",
        "difference": _difference(payment.kinds, ours, theirs),
        "cause": describe_cause(cause).says if cause else "",
    }


def _difference(kinds: tuple[str, ...], ours: Side | None, theirs: Side | None) -> str:
    if "unreadable" in kinds:
        return "not compared"
    if ours and theirs and kinds == ("fee",):
        return change(theirs["fee_cents"] - ours["fee_cents"], theirs["currency"])
    if ours and theirs and ours["currency"] != theirs["currency"]:
        return "other currency"
    if ours and theirs and ours["status"] == theirs["status"]:
        return change(theirs["amount_cents"] - ours["amount_cents"], ours["currency"])
    currency = (ours or theirs or {})["currency"]
    return change((_paid(theirs) if theirs else 0) - (_paid(ours) if ours else 0), currency)


def _amount(side: Side | None) -> str:
    if side is None:
        return "nothing"
    fee = f", fee {money(side['fee_cents'], side['currency'])}" if "fee_cents" in side else ""
    return f"{money(side['amount_cents'], side['currency'])}{fee}"


def _paid(side: Side) -> int:
    has_moved = side["status"] not in _UNMOVED and not side["status"].startswith("warning")
    return int(side["amount_cents"]) if has_moved else 0


def _size(side: Side | None) -> int:
    return 0 if side is None else abs(int(side["amount_cents"]))


def sample_break(
    kind: str,
    provider_id: str,
    ours: Side | None,
    theirs: Side | None,
    subject: str = "charge",
    cause: str = "",
) -> PaymentBreak:
    """Return an open break as a preview shows it."""
    return PaymentBreak(
        kind=kind, subject=subject, provider_id=provider_id, ours=ours, theirs=theirs,
        found_at=datetime(2026, 11, 21, tzinfo=UTC), closed_at=None, is_open=True, cause=cause,
        cause_event_id="", evidence={}, is_correction=False,
    )  # fmt: skip


def sample_breaks(currency: str) -> list[PaymentBreak]:
    """Return the breaks of the preview."""

    def side(minor: int, status: str = "paid") -> Side:
        return {"amount_cents": minor, "currency": currency, "status": status}

    return [
        sample_break("missing_here", "ch_3QK8fT2eZvKYlo2C1gX0aTnq", None, side(12_900), cause="lost_webhook"),
        sample_break("amount", "ch_3QK8hB2eZvKYlo2C0mPq7cWd", side(124_950), side(119_950)),
        sample_break("status", "ch_3QK8kR2eZvKYlo2C1uYb3dSs", side(4_800), side(4_800, "failed")),
    ]
