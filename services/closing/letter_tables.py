"""Weekly letters to owners, and the planned changes that they announce."""

import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Date, ForeignKey, Index, Integer, Table, Text, text

from services.core.columns import AT, EMPTY, columns, identity, optional
from services.core.db import metadata

STATUSES = ("draft", "held", "approved", "mailed")
"""``draft`` goes out at ``send_at``, ``approved`` now, ``held`` when a person approves it; ``mailed``: its
mail is in the outbox."""

owner_letters = Table(
    "owner_letters",
    metadata,
    identity(),
    Column("shop_id", Integer, ForeignKey("shops.id"), nullable=False),
    *columns("week subject body", Text),
    *columns("status", Text, text("'draft'")),
    *columns("drafted_at send_at", AT),
    # The person who approved or held it, and why; and who changed its text last.
    *columns("decided_by reason edited_by", Text, EMPTY),
    *optional("decided_at edited_at", AT),
    *optional("mail_id", BigInteger),
    sa.CheckConstraint("status in ('draft','held','approved','mailed')", name="status"),
    sa.UniqueConstraint("shop_id", "week", name="uq_owner_letters_week"),
    Index("ix_owner_letters_week", "week"),
)

# What the letters announce until its day is over. ``shop_id`` null: to every owner.
planned_changes = Table(
    "planned_changes",
    metadata,
    identity(Integer),
    Column("shop_id", Integer, ForeignKey("shops.id")),
    *columns("planned_on", Date),
    *columns("text added_by", Text),
    *columns("added_at", AT),
)
