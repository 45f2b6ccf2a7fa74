"""Tables of payments, reconciliation breaks and closed periods. Money is integer minor units."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Date, Index, Integer, Table, Text, TextClause, text
from sqlalchemy.dialects.postgresql import JSONB

from services.core.db import metadata

_at = sa.DateTime(timezone=True)
_EMPTY = text("''")

# ``kind`` is charge, refund, payment_intent, dispute or payout; a payout's amount may be negative.
# ``fee_cents`` is Stripe's fee, once its balance entry is known; ``order_ref`` the order in the payment's
# metadata.
transactions = Table(
    "transactions",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("provider_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("amount_cents", BigInteger, nullable=False),
    Column("refunded_cents", BigInteger, nullable=False, server_default=text("0")),
    Column("currency", Text, nullable=False),
    Column("occurred_at", _at, nullable=False),
    Column("parent_id", Text),
    Column("version_at", _at, nullable=False),
    Column("event_id", BigInteger),
    Column("fee_cents", BigInteger),
    Column("order_ref", Text, nullable=False, server_default=_EMPTY),
    Column("reason", Text, nullable=False, server_default=_EMPTY),
    Column("arrives_on", Date),
    Column("content_digest", Text, nullable=False, server_default=_EMPTY),
    Index("ix_transactions_occurred_at", "shop_id", "occurred_at"),
    Index("ix_transactions_parent", "shop_id", "parent_id", postgresql_where=text("parent_id is not null")),
    Index("ix_transactions_order_ref", "shop_id", "order_ref", postgresql_where=text("order_ref <> ''")),
)

# Stripe's record of what each charge, refund, dispute, fee and payout moved on its balance.
balance_entries = Table(
    "balance_entries",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("entry_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("source_id", Text, nullable=False, server_default=_EMPTY),
    Column("amount_cents", BigInteger, nullable=False),
    Column("fee_cents", BigInteger, nullable=False),
    Column("net_cents", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("created_at", _at, nullable=False),
    Column("available_on", Date),
    Column("payout_id", Text, nullable=False, server_default=_EMPTY),
    Index("ix_balance_entries_source", "shop_id", "source_id"),
    Index("ix_balance_entries_payout", "shop_id", "payout_id"),
    Index("ix_balance_entries_created_at", "shop_id", "created_at"),
)


def _break_columns(*, is_key: bool = False, subject: TextClause | None = None) -> list[Column[Any]]:
    """Return the columns that describe a break; ``subject`` is the default of that column."""
    return [
        Column("kind", Text, primary_key=is_key, nullable=False),
        Column("provider_id", Text, primary_key=is_key, nullable=False),
        Column("subject", Text, nullable=False, server_default=subject),
        Column("ours", JSONB),
        Column("theirs", JSONB),
        Column("cause", Text, nullable=False, server_default=_EMPTY),
        Column("cause_event_id", Text, nullable=False, server_default=_EMPTY),
        Column("evidence", JSONB, nullable=False, server_default=text("'{}'")),
    ]


reconciliation_breaks = Table(
    "reconciliation_breaks",
    metadata,
    Column("id", BigInteger, sa.Identity(always=True), primary_key=True),
    Column("shop_id", Integer, nullable=False),
    Column("day", Date, nullable=False),
    *_break_columns(subject=text("'charge'")),
    Column("found_at", _at, nullable=False),
    Column("closed_at", _at),
    sa.UniqueConstraint("shop_id", "day", "kind", "provider_id", name="uq_reconciliation_breaks_identity"),
)

# The breaks of one comparison until the transaction that ends its run records them. ``token`` keeps two
# comparisons of one day apart.
reconciliation_staging = Table(
    "reconciliation_staging",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("token", Text, primary_key=True),
    *_break_columns(is_key=True),
    Column("found_at", _at, nullable=False),
)

# Differences found after the day's period was closed: the row of the break does not change.
break_corrections = Table(
    "break_corrections",
    metadata,
    Column("id", BigInteger, sa.Identity(always=True), primary_key=True),
    Column("shop_id", Integer, nullable=False),
    Column("day", Date, nullable=False),
    *_break_columns(),
    Column("change", Text, nullable=False),
    Column("at", _at, nullable=False),
    sa.CheckConstraint("change in ('found','closed')", name="change"),
    Index("ix_break_corrections_day", "shop_id", "day"),
)

# A closed month. Its figures do not change; a later difference is a row of ``period_corrections`` in the
# month that finds it.
closed_periods = Table(
    "closed_periods",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("begins_on", Date, nullable=False),
    Column("ends_before", Date, nullable=False),
    Column("closed_at", _at, nullable=False),
    Column("figures", JSONB, nullable=False),
    Column("files", JSONB, nullable=False),
    Column("manifest_key", Text, nullable=False),
    Column("manifest_sha256", Text, nullable=False),
)

period_corrections = Table(
    "period_corrections",
    metadata,
    Column("id", BigInteger, sa.Identity(always=True), primary_key=True),
    Column("shop_id", Integer, nullable=False),
    Column("period", Text, nullable=False),
    Column("found_in", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("before_cents", BigInteger, nullable=False),
    Column("after_cents", BigInteger, nullable=False),
    Column("at", _at, nullable=False),
    sa.UniqueConstraint(
        "shop_id", "period", "found_in", "account", "currency", name="uq_period_corrections_identity"
    ),
)
