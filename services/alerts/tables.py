"""Incidents: one row per (shop, rule, period); and the state of each rule that is evaluated."""

from sqlalchemy import BigInteger, Double, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from services.core.columns import AT, EMPTY, NO_JSON, ZERO, columns, identity, keys, optional, unique
from services.core.db import metadata

incidents = Table(
    "incidents",
    metadata,
    identity(),
    *optional("shop_id", Integer),
    *columns("rule period severity", Text),
    *columns("status", Text, text("'open'")),
    *columns("summary", Text),
    *columns("detail", JSONB, NO_JSON),
    *columns("opened_at updated_at", AT),
    *optional("resolved_at", AT),
    # The person who closed it, and why; null if the rule closed it.
    *optional("resolved_by resolved_reason", Text),
    # The last change that the channels got, and when later ones happened.
    *columns("notified_change", Text, EMPTY),
    *optional("notified_at worsened_at reopened_at escalated_at", AT),
    # The person who works on it, and until when the channels get nothing about it.
    *optional("acknowledged_by", Text),
    *optional("acknowledged_at snoozed_until", AT),
    Index("ix_incidents_open", "severity", "id", postgresql_where=text("status = 'open'")),
    Index(
        "ix_incidents_notified",
        "notified_at",
        postgresql_where=text("notified_change not in ('', 'recovered')"),
    ),
    Index("ix_incidents_closed", "rule", "shop_id", postgresql_where=text("resolved_by is not null")),
    unique("uq_incidents_identity", "shop_id", "rule", "period"),
)

# A row while a figure is beyond its threshold, or was a short time ago. ``shop_id`` 0 is the fleet.
alert_states = Table(
    "alert_states",
    metadata,
    *keys("rule", Text),
    *keys("shop_id", Integer),
    *keys("subject", Text),
    *optional("opened_at turned_at", AT),
    *columns("notified_value", Double, ZERO),
    *columns("evaluated_at", AT),
)

# When each rule last had figures (or became known), their sum, and how many shops were beyond the threshold.
rule_evaluations = Table(
    "rule_evaluations",
    metadata,
    *keys("rule", Text),
    *columns("computed_at", AT),
    *columns("value", Double, ZERO),
    *columns("shops_beyond", Integer, ZERO),
)

# Thresholds that a person set; ``shop_id`` 0: for every shop without one of its own.
rule_settings = Table(
    "rule_settings",
    metadata,
    *keys("rule", Text),
    *keys("shop_id", Integer),
    *columns("threshold", Double),
    *columns("by reason", Text),
    *columns("at", AT),
)

# When the channels get nothing: every day from ``daily_from`` to ``daily_until`` (``HH:MM`` in ``zone``), or
# once from ``begins_at`` to ``ends_at``. ``shop_id`` null: the whole fleet.
quiet_windows = Table(
    "quiet_windows",
    metadata,
    identity(Integer),
    *optional("shop_id", Integer),
    *columns("daily_from daily_until zone", Text, EMPTY),
    *optional("begins_at ends_at", AT),
    *columns("reason created_by", Text),
    *columns("created_at", AT),
)

# When a message last got through each channel, and when one could last not be formed.
alert_channels = Table(
    "alert_channels", metadata, *keys("name", Text), *optional("sent_at not_planned_at", AT)
)

# Ready work of each topic, a row a minute for the last twenty.
topic_backlogs = Table(
    "topic_backlogs", metadata, *keys("minute", AT), *keys("topic", Text), *columns("ready", Integer)
)

# What happened to an incident: it opened, the channels got it, a person took it.
incident_entries = Table(
    "incident_entries",
    metadata,
    identity(),
    *columns("incident_id", BigInteger),
    *columns("at", AT),
    *columns("kind", Text),
    *columns("by text", Text, EMPTY),
    *columns("detail", JSONB, NO_JSON),
    Index("ix_incident_entries_incident_id", "incident_id", "id"),
)
