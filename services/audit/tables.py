"""The audit chain's tables. The application's role may only insert and read rows.

``audit_mutations`` is a view over ``audit_events.mutations``, which has the text that was hashed.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
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

from services.audit.chain import MAX_SEQ
from services.core.db import metadata

_at = DateTime(timezone=True)


def _check_seq(column: str) -> CheckConstraint:
    return CheckConstraint(f"{column} between 1 and {MAX_SEQ}", name=column)


def _check_time(column: str) -> CheckConstraint:
    """Refuse infinite times and those that Python cannot represent."""
    return CheckConstraint(f"{column} >= '1970-01-01Z' and {column} < '3000-01-01Z'", name=column)


def _check_key(column: str, ending: str) -> CheckConstraint:
    folder = "'^events/' || coalesce('shop-' || shop_id, 'fleet')"
    return CheckConstraint(
        f"{column} ~ ({folder} || '/[0-9]{{12,16}}-[0-9]{{12,16}}[.]{ending}$')", name=column
    )


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
    # A trigger, audit_events_follow, accepts only rows that follow the row before them.
    _check_seq("seq"),
    _check_time("at"),
    # Rows are in the order of time: a small index finds a day, and inserts cost nothing.
    Index("ix_audit_events_at", "at", postgresql_using="brin"),
    Index("uq_audit_events_work_id", "work_id", unique=True, postgresql_where=text("work_id is not null")),
)

# Verified and signed heads: the next verification may begin at one.
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
    _check_seq("seq"),
    _check_time("at"),
    # After a rotation of the key an unchanged head is signed again.
    UniqueConstraint(
        "shop_id", "seq", "public_key", name="uq_audit_checkpoints_seq", postgresql_nulls_not_distinct=True
    ),
)

# Ranges of archived events: their objects in the store, and their place in the chain.
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
    # The row of the same chain with the manifest's sum.
    Column("event_seq", BigInteger, nullable=False),
    Column("archived_at", _at, nullable=False),
    Column("retained_until", _at),
    *map(_check_seq, ("first_seq", "event_seq")),
    CheckConstraint(f"last_seq between first_seq and {MAX_SEQ}", name="last_seq"),
    *map(_check_time, ("archived_at", "retained_until")),
    _check_key("object_key", "jsonl[.]gz"),
    _check_key("manifest_key", "manifest[.]json"),
    UniqueConstraint(
        "shop_id", "first_seq", name="uq_audit_archives_first_seq", postgresql_nulls_not_distinct=True
    ),
)
