"""Orders on the shop floor, their stages, and every scan. Only the ``floor_...`` functions write them."""

import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from services.core.columns import AT, EMPTY, ZERO, columns, identity, keys, optional
from services.core.db import metadata

# The stages of a shop in their order; the last one is reached, not worked on. Without a row: the five of
# ``floor_stages``.
stage_sets = Table(
    "stage_sets",
    metadata,
    Column("shop_id", Integer, primary_key=True, autoincrement=False),
    *columns("stages", ARRAY(Text)),
    *columns("changed_at", AT),
    *columns("changed_by", Text),
)

# An order on the board. ``stage`` is that of ``orders``; ``holder_id`` is the person who started it.
# ``moved_at`` is the time of the last change by a person. ``lines`` is a list of {"title", "quantity"};
# ``changes`` says what an edit of the order changed. ``version`` is the id of the work that wrote them last.
floor_orders = Table(
    "floor_orders",
    metadata,
    *keys("shop_id", Integer),
    *keys("order_gid", Text),
    *columns("name stage", Text),
    *columns("storage notes changes", Text, EMPTY),
    *columns("lines", JSONB, text("'[]'")),
    *optional("assignee_id holder_id", Integer),
    *columns("version", BigInteger, ZERO),
    *columns("arrived_at moved_at", AT),
    *optional("due_at changed_at completed_at cancelled_at", AT),
    Index(
        "ix_floor_orders_board",
        "shop_id",
        "stage",
        "due_at",
        postgresql_where=text("completed_at is null and cancelled_at is null"),
    ),
    Index("ix_floor_orders_name", "shop_id", "name"),
    Index("ix_floor_orders_holder_id", "holder_id", postgresql_where=text("holder_id is not null")),
)

# Start and finish of one stage of one order. The names stay when a person is removed.
order_stages = Table(
    "order_stages",
    metadata,
    *keys("shop_id", Integer),
    *keys("order_gid stage", Text),
    *columns("started_at", AT),
    *columns("started_by_id", Integer),
    *columns("started_by", Text),
    *optional("finished_at", AT),
    *optional("finished_by", Text),
    Index("ix_order_stages_finished_at", "shop_id", "finished_at"),
)

# Every scan of a person with a right to scan, refused ones too: ``answer`` is what the scan was answered, and
# is answered when the same ``scan_id`` comes again.
stage_transitions = Table(
    "stage_transitions",
    metadata,
    identity(),
    *columns("shop_id", Integer),
    *columns("order_gid", Text),
    *columns("scan_id", sa.Uuid),
    *columns("action stage code", Text),
    *columns("user_id", Integer),
    *columns("answer", JSONB),
    *columns("at", AT),
    sa.UniqueConstraint("shop_id", "scan_id", name="uq_stage_transitions_scan_id"),
    Index("ix_stage_transitions_order", "shop_id", "order_gid", "id"),
)
