"""Stripe's lists of a day as rows, and the rows as the text that COPY reads."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

from services.core.fields import Unreadable
from services.core.pg_copy import csv_rows
from services.payments.balance import in_batches
from services.payments.comparison import SUBJECTS, Comparison
from services.payments.payload import parse_transaction
from services.payments.unreadable import UnreadableObject, parse_readable
from services.providers.stripe_api import list_objects

ROWS_PER_BLOCK = 2_000
"""Rows in memory at a time: 300 KB of text."""


class StripeRow(NamedTuple):
    """One charge, refund, dispute or payout as Stripe lists it; ``created`` is in seconds since 1970.

    The other fields are those of ``Transaction``.
    """

    kind: str
    provider_id: str
    amount_cents: int
    currency: str
    status: str
    created: int
    parent_id: str | None = None
    order_ref: str = ""
    refunded_cents: int = 0
    fee_cents: int | None = None


def list_stripe_rows(
    key: str, base_url: str, day: Comparison, unreadable: list[UnreadableObject]
) -> Iterator[StripeRow]:
    """Yield the charges (with their fees), refunds, disputes and payouts created in the day, page by page.

    An object that lacks a field is appended to ``unreadable``, and the list goes on.
    """
    for subject in SUBJECTS:
        filters = {"expand": ["data.balance_transaction"]} if subject == "charge" else {}
        listed = list_objects(
            key, base_url, f"{subject}s", created_gte=day.begins, created_lt=day.ends, **filters
        )
        yield from parse_readable(listed, subject, partial(_parse_row, day), unreadable)


def _parse_row(day: Comparison, source: dict[str, Any]) -> StripeRow:
    parsed = parse_transaction(source, shop_id=day.shop_id, version_at=day.ends)
    if parsed is None:
        raise Unreadable("object", source.get("object"), "a charge, refund, dispute or payout")
    return StripeRow(
        kind=parsed.kind,
        provider_id=parsed.provider_id,
        amount_cents=parsed.amount_cents,
        currency=parsed.currency,
        status=parsed.status,
        created=int(parsed.occurred_at.timestamp()),
        parent_id=parsed.parent_id,
        order_ref=parsed.order_ref,
        refunded_cents=parsed.refunded_cents,
        fee_cents=parsed.fee_cents,
    )


def render_rows(rows: Iterable[StripeRow]) -> Iterator[bytes]:
    """Yield ``rows`` as blocks that COPY reads with ``COPY_FORMAT``, in the order of ``StripeRow``."""
    for block in in_batches(map(tuple, rows), ROWS_PER_BLOCK):
        yield csv_rows(block)
