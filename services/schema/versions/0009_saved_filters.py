"""Saved filters of the console's lists"""

from alembic import op

revision = "s0009"
down_revision = "s0008"
branch_labels = None
depends_on = None

_STATEMENT = """
create table saved_filters (
  id integer generated always as identity, user_id integer, list text not null, name text not null,
  query text not null, created_by text not null, created_at timestamptz not null,
  constraint pk_saved_filters primary key (id),
  constraint uq_saved_filters_name unique nulls not distinct (user_id, list, name),
  constraint fk_saved_filters_user_id_users foreign key(user_id) references users (id) on delete cascade
)
"""


def upgrade() -> None:
    op.execute(_STATEMENT)


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
