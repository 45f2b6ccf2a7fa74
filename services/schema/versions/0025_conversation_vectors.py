"""Vectors of calls, messages and mails, and what AI may read them for"""

from alembic import op

revision = "s0025"
down_revision = "s0024"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "alter table shop_config add column ai_uses text default '' not null",
    """
create table interaction_vectors ( shop_id integer not null, interaction_id text not null, model text
  not null, digest text not null, embedding real[] not null, created_at timestamptz not null,
  constraint pk_interaction_vectors primary key (shop_id, interaction_id) )
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
