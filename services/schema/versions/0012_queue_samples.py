"""Samples of the queues for charts"""

from alembic import op

revision = "s0012"
down_revision = "s0011"
branch_labels = None
depends_on = None

_UP = """
create table queue_samples (
  queue text not null,
  minute timestamptz not null,
  ready int not null,
  open_items int not null,
  locked int not null,
  retrying int not null,
  dead int not null,
  oldest_seconds double precision not null,
  done_total bigint not null,
  dead_total bigint not null,
  effects_total bigint[] not null,
  constraint pk_queue_samples primary key (queue, minute)
)
"""


def upgrade() -> None:
    op.execute(_UP)


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
