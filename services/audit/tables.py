"""The audit chain's tables. The application's role may only insert and read rows.

``audit_mutations`` is a view over ``audit_events.mutations``, which has the text that was hashed.
"""

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from services.audit.chain import MAX_SEQ
from services.core.columns import AT, columns, identity, optional, unique
from services.core.db import metadata


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
    identity(),
    *optional("shop_id", Integer),
    *columns("seq", BigInteger),
    *columns("at", AT),
    *columns("staff_label action request_id", Text),
    *optional("work_id", BigInteger),
    *columns("mutations prev_hash hash", Text),
    unique("uq_audit_events_seq", "shop_id", "seq"),
    # A trigger, audit_events_follow, accepts only rows that follow the row before them.
    _check_seq("seq"),
    _check_time("at"),
    # Rows are in the order of time: a small index finds a day, and inserts cost nothing.
    Index("ix_audit_events_at", "at", postgresql_using="brin"),
    # Changes by people and commands, of which there are few: the timeline of a row reads them.
    Index("ix_audit_events_by_people", "shop_id", "id", postgresql_where=text("work_id is null")),
    Index("uq_audit_events_work_id", "work_id", unique=True, postgresql_where=text("work_id is not null")),
)

# Verified and signed heads: the next verification may begin at one.
audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    identity(),
    *optional("shop_id", Integer),
    *columns("seq", BigInteger),
    *columns("hash", Text),
    *columns("at", AT),
    *columns("public_key signature", Text),
    _check_seq("seq"),
    _check_time("at"),
    # After a rotation of the key an unchanged head is signed again.
    unique("uq_audit_checkpoints_seq", "shop_id", "seq", "public_key"),
)

# What the verifications of each chain found; a row each time that it differs from the last one. The owner of
# the tables alone writes the last four columns.
audit_verifications = Table(
    "audit_verifications",
    metadata,
    identity(),
    *optional("shop_id", Integer),
    *columns("at", AT),
    *columns("findings", JSONB),
    *optional("resolved_at open_until", AT),
    *optional("decided_by decided_reason", Text),
)

# Ranges of archived events: their objects in the store, and their place in the chain. ``event_seq`` is the
# row of the same chain with the manifest's sum.
audit_archives = Table(
    "audit_archives",
    metadata,
    identity(),
    *optional("shop_id", Integer),
    *columns("first_seq last_seq", BigInteger),
    *columns("first_prev_hash last_hash object_key object_sha256", Text),
    *columns("object_bytes", BigInteger),
    *columns("manifest_key manifest_sha256", Text),
    *columns("event_seq", BigInteger),
    *columns("archived_at", AT),
    *optional("retained_until", AT),
    *map(_check_seq, ("first_seq", "event_seq")),
    CheckConstraint(f"last_seq between first_seq and {MAX_SEQ}", name="last_seq"),
    *map(_check_time, ("archived_at", "retained_until")),
    _check_key("object_key", "jsonl[.]gz"),
    _check_key("manifest_key", "manifest[.]json"),
    unique("uq_audit_archives_first_seq", "shop_id", "first_seq"),
)
