"""The ledger's tables. Hot tables carry no foreign keys: a check per row would cost more than the insert."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from services.core.db import metadata

STATUSES = ("pending", "done", "error", "dead", "discarded")
"""``pending`` waits (``locked_at`` is set while a worker has it), ``error`` will be tried again at
``next_retry_at``, ``dead`` waits for a person, ``done`` and ``discarded`` are final."""

_now = func.now()
_at = DateTime(timezone=True)

inbound_events = Table(
    "inbound_events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("shop_id", Integer, nullable=False),
    Column("provider", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("delivery_key", Text, nullable=False),
    Column("headers", JSONB, nullable=False, server_default=text("'{}'")),
    Column("body", LargeBinary, nullable=False),
    Column("received_at", _at, nullable=False, server_default=_now),
    Column("occurred_at", _at),
    Column("duplicate_count", Integer, nullable=False, server_default=text("0")),
    Column("origin", Text, nullable=False, server_default=text("'webhook'")),
    Column("request_id", Text, nullable=False, server_default=text("''")),
    Column("replay_of", BigInteger),
    UniqueConstraint("shop_id", "provider", "topic", "delivery_key", name="uq_inbound_events_delivery"),
    Index("ix_inbound_events_received_at", "received_at"),
)

work_queue = Table(
    "work_queue",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("shop_id", Integer, nullable=False),
    Column("queue", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("key", Text, nullable=False, server_default=text("''")),
    Column("payload", JSONB, nullable=False, server_default=text("'{}'")),
    Column("status", Text, nullable=False, server_default=text("'pending'")),
    Column("retry_count", Integer, nullable=False, server_default=text("0")),
    Column("next_retry_at", _at),
    Column("locked_at", _at),
    Column("locked_by", Text),
    Column("lease_until", _at),
    Column("last_error", Text),
    Column("error_code", Text),
    Column("result", Text),
    Column("event_id", BigInteger),
    Column("origin", Text, nullable=False, server_default=text("'webhook'")),
    Column("request_id", Text, nullable=False, server_default=text("''")),
    Column("created_at", _at, nullable=False, server_default=_now),
    Column("dispatched_at", _at),
    Column("dispatch_count", Integer, nullable=False, server_default=text("0")),
    Column("finished_at", _at),
    # When it died before a person requeued it; null on what never died.
    Column("died_at", _at),
    CheckConstraint("status in ('pending','done','error','dead','discarded')", name="status"),
    # The claim reads this one: ready rows of a topic, shop by shop, oldest due first.
    Index(
        "ix_work_queue_ready",
        "topic",
        "shop_id",
        text("coalesce(next_retry_at, created_at)"),
        "id",
        postgresql_where=text("status in ('pending','error') and locked_at is null"),
    ),
    # The sweep and one-at-a-time per key read this one: what some worker has in hand.
    Index(
        "ix_work_queue_locked",
        "topic",
        "key",
        postgresql_where=text("status in ('pending','error') and locked_at is not null"),
    ),
    Index("ix_work_queue_dead", "topic", "shop_id", postgresql_where=text("status in ('dead','discarded')")),
    Index(
        "ix_work_queue_requeued",
        "topic",
        "shop_id",
        postgresql_where=text("died_at is not null and status in ('pending','error')"),
    ),
    Index("ix_work_queue_event_id", "event_id", postgresql_where=text("event_id is not null")),
)

pauses = Table(
    "pauses",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("queue", Text),
    Column("topic", Text),
    Column("shop_id", Integer),
    Column("mode", Text, nullable=False),
    Column("rate_per_second", Double),
    Column("drain_tokens", Double, nullable=False, server_default=text("0")),
    Column("drained_at", _at),
    Column("created_at", _at, nullable=False, server_default=_now),
    Column("created_by", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=text("''")),
    Column("ends_at", _at),
    CheckConstraint("mode in ('hold','refuse','drain')", name="mode"),
    UniqueConstraint("queue", "topic", "shop_id", name="uq_pauses_scope", postgresql_nulls_not_distinct=True),
)

rate_limits = Table(
    "rate_limits",
    metadata,
    Column("owner_id", Integer, primary_key=True),
    Column("bucket", Text, primary_key=True),
    Column("available", Double, nullable=False),
    Column("maximum", Double, nullable=False),
    Column("restore_per_second", Double, nullable=False),
    Column("updated_at", _at, nullable=False, server_default=_now),
    Column("call_points", Double),
)

heartbeats = Table(
    "heartbeats",
    metadata,
    Column("name", Text, primary_key=True),
    Column("at", _at, nullable=False),
    Column("detail", JSONB, nullable=False, server_default=text("'{}'")),
)

work_stats = Table(
    "work_stats",
    metadata,
    Column("minute", _at, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("worker", Text, primary_key=True),
    Column("done", Integer, nullable=False, server_default=text("0")),
    Column("retried", Integer, nullable=False, server_default=text("0")),
    Column("dead", Integer, nullable=False, server_default=text("0")),
    Column("last_at", _at, nullable=False),
)

request_counts = Table(
    "request_counts",
    metadata,
    Column("minute", _at, primary_key=True),
    Column("shop", Text, primary_key=True),
    Column("provider", Text, primary_key=True),
    Column("outcome", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
)

# Since when a shop's signed webhooks are refused, by outcome; a row goes once healing has read what they
# were about.
webhook_refusals = Table(
    "webhook_refusals",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("outcome", Text, primary_key=True),
    Column("first_at", _at, nullable=False),
    Column("last_at", _at, nullable=False),
)

# Up to when a provider's own list was read: every change before ``synced_until`` is known.
sync_cursors = Table(
    "sync_cursors",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("provider", Text, primary_key=True),
    Column("stream", Text, primary_key=True),
    Column("synced_until", _at, nullable=False),
    Column("synced_at", _at, nullable=False),
)
