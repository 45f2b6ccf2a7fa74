"""Tables of payments, reconciliation breaks and closed periods. Money is integer minor units."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Date, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from services.core.columns import AT, EMPTY, ZERO, columns, keys, optional
from services.core.db import metadata

# ``kind`` is charge, refund, payment_intent, dispute or payout; a payout's amount may be negative.
# ``fee_cents`` is Stripe's fee, once its balance entry is known; ``order_ref`` the order in the payment's
# metadata.
transactions = Table(
    "transactions",
    metadata,
    *keys("shop_id", Integer),
    *keys("provider_id", Text),
    *columns("kind status", Text),
    *columns("amount_cents", BigInteger),
    *columns("refunded_cents", BigInteger, ZERO),
    *columns("currency", Text),
    *columns("occurred_at version_at", AT),
    *optional("parent_id", Text),
    *optional("event_id fee_cents", BigInteger),
    *columns("order_ref reason content_digest", Text, EMPTY),
    *optional("arrives_on", Date),
    Index("ix_transactions_occurred_at", "shop_id", "occurred_at"),
    Index("ix_transactions_parent", "shop_id", "parent_id", postgresql_where=text("parent_id is not null")),
    Index("ix_transactions_order_ref", "shop_id", "order_ref", postgresql_where=text("order_ref <> ''")),
)

# Stripe's record of what each charge, refund, dispute, fee and payout moved on its balance.
balance_entries = Table(
    "balance_entries",
    metadata,
    *keys("shop_id", Integer),
    *keys("entry_id", Text),
    *columns("kind currency", Text),
    *columns("source_id payout_id", Text, EMPTY),
    *columns("amount_cents fee_cents net_cents", BigInteger),
    *columns("created_at", AT),
    *optional("available_on", Date),
    Index("ix_balance_entries_source", "shop_id", "source_id"),
    Index("ix_balance_entries_payout", "shop_id", "payout_id"),
    Index("ix_balance_entries_created_at", "shop_id", "created_at"),
)


def _break_columns() -> list[Column[Any]]:
    """Return the columns that describe a break, except its kind, id and subject."""
    return [
        *optional("ours theirs", JSONB),
        *columns("cause cause_event_id", Text, EMPTY),
        *columns("evidence", JSONB, text("'{}'")),
    ]


reconciliation_breaks = Table(
    "reconciliation_breaks",
    metadata,
    Column("id", BigInteger, sa.Identity(always=True), primary_key=True),
    *columns("shop_id", Integer),
    *columns("day", Date),
    *columns("kind provider_id", Text),
    *columns("subject", Text, text("'charge'")),
    *_break_columns(),
    *columns("found_at", AT),
    *optional("closed_at", AT),
    sa.UniqueConstraint("shop_id", "day", "kind", "provider_id", name="uq_reconciliation_breaks_identity"),
)

# The breaks of one comparison until the transaction that ends its run records them. ``token`` keeps two
# comparisons of one day apart.
reconciliation_staging = Table(
    "reconciliation_staging",
    metadata,
    *keys("shop_id", Integer),
    *keys("day", Date),
    *keys("token kind provider_id", Text),
    *columns("subject", Text),
    *_break_columns(),
    *columns("found_at", AT),
)

# Differences found after the day's period was closed: the row of the break does not change.
break_corrections = Table(
    "break_corrections",
    metadata,
    Column("id", BigInteger, sa.Identity(always=True), primary_key=True),
    *columns("shop_id", Integer),
    *columns("day", Date),
    *columns("kind provider_id subject change", Text),
    *_break_columns(),
    *columns("at", AT),
    sa.CheckConstraint("change in ('found','closed')", name="change"),
    Index("ix_break_corrections_day", "shop_id", "day"),
)

# A closed month. Its figures do not change; a later difference is a row of ``period_corrections`` in the
# month that finds it.
closed_periods = Table(
    "closed_periods",
    metadata,
    *keys("shop_id", Integer),
    *keys("period", Text),
    *columns("begins_on ends_before", Date),
    *columns("closed_at", AT),
    *columns("figures files", JSONB),
    *columns("manifest_key manifest_sha256", Text),
)

period_corrections = Table(
    "period_corrections",
    metadata,
    Column("id", BigInteger, sa.Identity(always=True), primary_key=True),
    *columns("shop_id", Integer),
    *columns("period found_in account currency", Text),
    *columns("before_cents after_cents", BigInteger),
    *columns("at", AT),
    sa.UniqueConstraint(
        "shop_id", "period", "found_in", "account", "currency", name="uq_period_corrections_identity"
    ),
)
