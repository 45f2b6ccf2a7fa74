"""The audit chain's tables. The application's role may add rows and read them, nothing else.

``audit_mutations`` is a view over ``audit_events.mutations``, which keeps the very text that was hashed.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from services.core.db import metadata

_at = DateTime(timezone=True)

audit_events = Table(
    "audit_events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("shop_id", Integer),
    Column("seq", BigInteger, nullable=False),
    Column("at", _at, nullable=False),
    Column("staff_label", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("work_id", BigInteger),
    Column("mutations", Text, nullable=False),
    Column("prev_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
    UniqueConstraint("shop_id", "seq", name="uq_audit_events_seq", postgresql_nulls_not_distinct=True),
    # Rows come in the order of time: a few pages of summary find a day, and an insert pays nothing.
    Index("ix_audit_events_at", "at", postgresql_using="brin"),
    # An item of work is audited once.
    Index("uq_audit_events_work_id", "work_id", unique=True, postgresql_where=text("work_id is not null")),
)

# A head that was verified and signed: the next verification may begin here.
audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("shop_id", Integer),
    Column("seq", BigInteger, nullable=False),
    Column("hash", Text, nullable=False),
    Column("at", _at, nullable=False),
    Column("public_key", Text, nullable=False),
    Column("signature", Text, nullable=False),
    # The key is part of it: after a rotation a head that did not move is signed anew.
    UniqueConstraint(
        "shop_id", "seq", "public_key", name="uq_audit_checkpoints_seq", postgresql_nulls_not_distinct=True
    ),
)

# A run of events that left for the archive store: what stands there, and how it ties into the chain.
audit_archives = Table(
    "audit_archives",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("shop_id", Integer),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("first_prev_hash", Text, nullable=False),
    Column("last_hash", Text, nullable=False),
    Column("object_key", Text, nullable=False),
    Column("object_sha256", Text, nullable=False),
    Column("object_bytes", BigInteger, nullable=False),
    Column("manifest_key", Text, nullable=False),
    Column("manifest_sha256", Text, nullable=False),
    # The row of the same chain that carries the manifest's sum.
    Column("event_seq", BigInteger, nullable=False),
    Column("archived_at", _at, nullable=False),
    Column("retained_until", _at),
    UniqueConstraint(
        "shop_id", "first_seq", name="uq_audit_archives_first_seq", postgresql_nulls_not_distinct=True
    ),
)
