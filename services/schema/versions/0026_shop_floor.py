"""The shop floor: stages of orders, scans, and the role floor"""

from alembic import op

revision = "s0026"
down_revision = "s0025"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "alter table shop_config add column shop_floor text default 'off' not null",
    """
create table stage_sets ( shop_id integer not null, stages text[] not null, changed_at timestamptz not
  null, changed_by text not null, constraint pk_stage_sets primary key (shop_id) )
    """,
    """
create table floor_orders ( shop_id integer not null, order_gid text not null, name text not null,
  stage text not null, storage text default '' not null, notes text default '' not null, changes text
  default '' not null, lines jsonb default '[]' not null, assignee_id integer, holder_id integer,
  version bigint default 0 not null, arrived_at timestamptz not null, moved_at timestamptz not null,
  due_at timestamptz, changed_at timestamptz, completed_at timestamptz, cancelled_at timestamptz,
  constraint pk_floor_orders primary key (shop_id, order_gid) )
    """,
    """
create index ix_floor_orders_board on floor_orders (shop_id, stage, due_at)
 where completed_at is null and cancelled_at is null
    """,
    "create index ix_floor_orders_name on floor_orders (shop_id, name)",
    "create index ix_floor_orders_holder_id on floor_orders (holder_id) where holder_id is not null",
    """
create table order_stages ( shop_id integer not null, order_gid text not null, stage text not null,
  started_at timestamptz not null, started_by_id integer not null, started_by text not null,
  finished_at timestamptz, finished_by text,
  constraint pk_order_stages primary key (shop_id, order_gid, stage) )
    """,
    "create index ix_order_stages_finished_at on order_stages (shop_id, finished_at)",
    """
create table stage_transitions ( id bigint generated always as identity, shop_id integer not null,
  order_gid text not null, scan_id uuid not null, action text not null, stage text not null, code text
  not null, user_id integer not null, answer jsonb not null, at timestamptz not null, constraint
  pk_stage_transitions primary key (id),
  constraint uq_stage_transitions_scan_id unique (shop_id, scan_id) )
    """,
    "create index ix_stage_transitions_order on stage_transitions (shop_id, order_gid, id)",
    *(
        f"alter table {table} drop constraint ck_{table}_role, add constraint ck_{table}_role "
        "check (role in ('floor', 'viewer', 'operator', 'admin', 'owner'))"
        for table in ("user_roles", "api_tokens")
    ),
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
