"""Definitions of scheduled reports, and one row for each report and period."""

import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from services.core.columns import AT, EMPTY, NO_JSON, ZERO, columns, identity, optional
from services.core.db import metadata

STATUSES = ("pending", "mailed", "sent", "failed")
"""``mailed``: its mails are in the outbox; ``sent``: the mail server has all of them."""

reports = Table(
    "reports",
    metadata,
    identity(Integer),
    Column("shop_id", Integer, ForeignKey("shops.id"), nullable=False),
    *columns("name kind covers schedule", Text),
    # ``user_ids``, ``jobcode_ids`` and ``group_ids``: lists of ids at the provider.
    *columns("filters", JSONB, NO_JSON),
    *columns("recipients formats", ARRAY(Text)),
    *columns("overtime week_begins", Text),
    *columns("day_begins", Integer, ZERO),
    *columns("created_at changed_at", AT),
    *optional("paused_at", AT),
    sa.CheckConstraint("day_begins between 0 and 23", name="day_begins"),
    sa.UniqueConstraint("shop_id", "name", name="uq_reports_name"),
)

# A report goes out once for each period.
report_runs = Table(
    "report_runs",
    metadata,
    identity(),
    Column("report_id", Integer, ForeignKey("reports.id", ondelete="CASCADE"), nullable=False),
    *columns("shop_id", Integer),
    *columns("period", Text),
    *columns("due_at", AT),
    *columns("status", Text, text("'pending'")),
    *columns("origin started_by", Text),
    *columns("request_id", Text, EMPTY),
    *columns("stats", JSONB, NO_JSON),
    *columns("mail_ids", ARRAY(BigInteger), text("'{}'")),
    *optional("work_id", BigInteger),
    *optional("sent_at failed_at", AT),
    *optional("error_code error", Text),
    sa.CheckConstraint("status in ('pending','mailed','sent','failed')", name="status"),
    sa.UniqueConstraint("report_id", "period", name="uq_report_runs_period"),
    Index("ix_report_runs_open", "due_at", postgresql_where=text("status <> 'sent'")),
    Index("ix_report_runs_shop_id", "shop_id", "due_at"),
)
