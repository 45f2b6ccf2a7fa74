"""What people started on all rows that matched, and how far each is."""

import sqlalchemy as sa
from sqlalchemy import BigInteger, Integer, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from services.core.columns import AT, EMPTY, NO_JSON, ZERO, columns, identity, optional
from services.core.db import metadata

STATUSES = ("running", "done", "stopped")

# ``row_ids`` are the rows that were chosen at the start; the first ``done_count`` of them are handled.
# ``skipped`` has the ids of matching rows that were not changed, by cause; of other shops their number.
# ``request_hash`` is a keyed hash of the filters as they were sent.
bulk_actions = Table(
    "bulk_actions",
    metadata,
    identity(),
    *columns("list action", Text),
    *columns("query", JSONB),
    *columns("row_ids", ARRAY(BigInteger)),
    *columns("shop_ids", ARRAY(Integer)),
    *columns("total_count", Integer),
    *columns("done_count changed_count skipped_count", Integer, ZERO),
    *columns("skipped", JSONB, NO_JSON),
    *columns("status reason started_by", Text),
    *columns("user_id", Integer),
    *columns("request_key", Text),
    *columns("request_hash", Text, EMPTY),
    *columns("started_at", AT),
    *optional("ended_at", AT),
    *columns("error", Text, EMPTY),
    sa.CheckConstraint("status in ('running','done','stopped')", name="status"),
    sa.UniqueConstraint("user_id", "request_key", name="uq_bulk_actions_request_key"),
)
