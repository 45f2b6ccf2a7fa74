"""The ledger's tables. Hot tables have no foreign keys: a check per row would cost more than the insert."""

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy import BigInteger, Double, Index, Integer, LargeBinary, Table, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from services.core.columns import AT, EMPTY, NO_JSON, ZERO, columns, identity, keys, optional, unique
from services.core.db import metadata

STATUSES = ("pending", "done", "error", "dead", "discarded")
"""``pending`` waits (``locked_at`` is set while a worker has locked it), ``error`` is retried at
``next_retry_at``, ``dead`` waits for a person, ``done`` and ``discarded`` are final."""

_NOW, _WEBHOOK = func.now(), text("'webhook'")

inbound_events = Table(
    "inbound_events",
    metadata,
    identity(),
    *columns("shop_id", Integer),
    *columns("provider topic delivery_key", Text),
    *columns("headers", JSONB, NO_JSON),
    *columns("body", LargeBinary),
    *columns("received_at", AT, _NOW),
    *optional("occurred_at", AT),
    *columns("duplicate_count", Integer, ZERO),
    *columns("origin", Text, _WEBHOOK),
    *columns("request_id", Text, EMPTY),
    *optional("replay_of", BigInteger),
    sa.UniqueConstraint("shop_id", "provider", "topic", "delivery_key", name="uq_inbound_events_delivery"),
    Index("ix_inbound_events_received_at", "received_at"),
    # The replays and edits of an event.
    Index("ix_inbound_events_replay_of", "replay_of", postgresql_where=text("replay_of is not null")),
)

UNLOCKED = text("status in ('pending','error') and locked_at is null")
_LOCKED = text("status in ('pending','error') and locked_at is not null")
_REQUEUED = text("died_at is not null and status in ('pending','error')")
_GIVEN_UP = text("status in ('dead','discarded')")
_DUE = text("coalesce(next_retry_at, created_at)")

work_queue = Table(
    "work_queue",
    metadata,
    identity(),
    *columns("shop_id", Integer),
    *columns("queue topic", Text),
    *columns("key", Text, EMPTY),
    *columns("payload", JSONB, NO_JSON),
    *columns("status", Text, text("'pending'")),
    *columns("retry_count", Integer, ZERO),
    *optional("next_retry_at locked_at", AT),
    *optional("locked_by", Text),
    *optional("lease_until", AT),
    *optional("last_error error_code result", Text),
    *optional("event_id", BigInteger),
    *columns("origin", Text, _WEBHOOK),
    *columns("request_id", Text, EMPTY),
    *columns("created_at", AT, _NOW),
    *optional("dispatched_at", AT),
    *columns("dispatch_count", Integer, ZERO),
    # ``died_at``: when the work became dead, set when a person requeues it.
    *optional("finished_at died_at", AT),
    sa.CheckConstraint("status in ('pending','done','error','dead','discarded')", name="status"),
    # For claims: ready rows of a topic, by shop, oldest due first.
    Index("ix_work_queue_ready", "topic", "shop_id", _DUE, "id", postgresql_where=UNLOCKED),
    # For the sweep and the check of locked keys.
    Index("ix_work_queue_locked", "topic", "key", postgresql_where=_LOCKED),
    Index("ix_work_queue_dead", "topic", "shop_id", postgresql_where=_GIVEN_UP),
    Index("ix_work_queue_requeued", "topic", "shop_id", postgresql_where=_REQUEUED),
    Index("ix_work_queue_event_id", "event_id", postgresql_where=text("event_id is not null")),
)

_IS_KEPT = text("subject is not null")

# The secrets that seal archived events: one of each shop (``subject`` is empty; sealed with SECRET_KEY) and
# one of each person (``subject``: a keyed hash of who it is). Both are null once the secret is destroyed.
archive_keys = Table(
    "archive_keys",
    metadata,
    identity(),
    *columns("shop_id", Integer),
    *optional("subject secret", LargeBinary),
    *columns("created_at", AT),
    *optional("destroyed_at", AT),
    Index("uq_archive_keys_subject", "shop_id", "subject", unique=True, postgresql_where=_IS_KEPT),
)

# An object of archived events in the store. ``stored_at`` is null until its events are deleted here.
event_archives = Table(
    "event_archives",
    metadata,
    identity(),
    *columns("shop_id", Integer),
    *columns("object_key", Text),
    *columns("planned_at", AT),
    *optional("stored_at first_received_at last_received_at", AT),
    *columns("object_sha256", Text, EMPTY),
    *columns("object_bytes", BigInteger, ZERO),
    *columns("event_ids key_ids", ARRAY(BigInteger), NO_JSON),
    Index("ix_event_archives_received_at", "shop_id", "last_received_at"),
    Index("ix_event_archives_planned", "id", postgresql_where=text("stored_at is null")),
)

pauses = Table(
    "pauses",
    metadata,
    identity(Integer),
    *optional("queue topic cost", Text),
    *optional("shop_id", Integer),
    *columns("mode", Text),
    *optional("rate_per_second", Double),
    *columns("drain_tokens", Double, ZERO),
    *optional("drained_at", AT),
    *columns("created_at", AT, _NOW),
    *columns("created_by", Text),
    *columns("reason", Text, EMPTY),
    *optional("ends_at", AT),
    sa.CheckConstraint("mode in ('hold','refuse','drain')", name="mode"),
    unique("uq_pauses_scope", "queue", "topic", "cost", "shop_id"),
)

# Topics whose retries wait ``factor`` times longer.
topic_backoffs = Table(
    "topic_backoffs",
    metadata,
    *keys("topic", Text),
    *columns("factor", Double),
    *columns("created_at", AT),
    *columns("created_by", Text),
    *columns("reason", Text, EMPTY),
)

rate_limits = Table(
    "rate_limits",
    metadata,
    *keys("owner_id", Integer),
    *keys("bucket", Text),
    *columns("available maximum restore_per_second", Double),
    *columns("updated_at", AT, _NOW),
    *optional("call_points", Double),
)

heartbeats = Table(
    "heartbeats", metadata, *keys("name", Text), *columns("at", AT), *columns("detail", JSONB, NO_JSON)
)

TOTAL = datetime(1970, 1, 1, tzinfo=UTC)
"""``minute`` of the rows of ``work_stats`` and ``request_counts`` that contain the totals of all minutes. The
counters of ``/metrics`` are read from these few rows; old minutes are deleted."""

work_stats = Table(
    "work_stats",
    metadata,
    *keys("minute", AT),
    *keys("topic worker", Text),
    *columns("done retried dead", BigInteger, ZERO),
    *columns("last_at", AT),
    # Histograms (``services.ledger.timings``), in the rows of the totals alone.
    *columns("timings", ARRAY(BigInteger), NO_JSON),
)

# Figures of each queue, a row a minute; ``queue`` is empty for all, and ``topic:NAME`` for a topic that is
# not idle. The totals are counters.
queue_samples = Table(
    "queue_samples",
    metadata,
    *keys("queue", Text),
    *keys("minute", AT),
    *columns("ready open_items locked retrying dead", Integer),
    *columns("oldest_seconds", Double),
    *columns("done_total dead_total", BigInteger),
    *columns("effects_total", ARRAY(BigInteger)),
)

# Answered requests. ``provider`` is empty for pages; ``latency`` is a histogram (``services.core.latency``).
request_counts = Table(
    "request_counts",
    metadata,
    *keys("minute", AT),
    *keys("shop provider outcome route", Text),
    *keys("status", Integer),
    *columns("count", BigInteger),
    *columns("latency", ARRAY(Integer), NO_JSON),
)

# A request that was answered with 5xx. ``request``: method, path, topic and ids; no query, no body.
request_errors = Table(
    "request_errors",
    metadata,
    *keys("request_id", Text),
    *columns("at", AT),
    *optional("shop_id", Integer),
    *columns("route", Text),
    *columns("status", Integer),
    *columns("error_class reason staff_label", Text),
    *columns("request", JSONB),
    Index("ix_request_errors_at", "at"),
)

# Addresses that sent webhooks with a wrong signature: the most frequent ones of an hour, shop and provider.
webhook_senders = Table(
    "webhook_senders",
    metadata,
    *keys("hour", AT),
    *keys("shop provider address", Text),
    *columns("count", BigInteger),
)

# Durations of statements by kind of process (ingress, console, jobs); ``latency`` as in ``request_counts``.
statement_stats = Table(
    "statement_stats",
    metadata,
    *keys("minute", AT),
    *keys("process statement", Text),
    *columns("count", BigInteger),
    *columns("total_ms", Double),
    *columns("latency", ARRAY(Integer)),
)

# The text of each statement, with ``$1`` for its first parameter.
statement_texts = Table("statement_texts", metadata, *keys("statement", Text), *columns("text", Text))

# The size of each table at the beginning of a day (UTC); ``row_count`` is PostgreSQL's estimate.
table_sizes = Table(
    "table_sizes",
    metadata,
    *keys("day", AT),
    *keys("table_name", Text),
    *columns("row_count byte_count", BigInteger),
)

# Since when a shop's signed webhooks are refused, by outcome. The backfill deletes a row when it has read
# their data.
webhook_refusals = Table(
    "webhook_refusals",
    metadata,
    *keys("shop_id", Integer),
    *keys("outcome", Text),
    *columns("first_at last_at", AT),
)

# Up to which time a provider's list was read: every change before ``synced_until`` is recorded.
sync_cursors = Table(
    "sync_cursors",
    metadata,
    *keys("shop_id", Integer),
    *keys("provider stream", Text),
    *columns("synced_until synced_at", AT),
)
