"""Weekly letters to owners, and planned changes"""

from alembic import op

revision = "s0018"
down_revision = "s0017"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
create table owner_letters ( id bigint generated always as identity, shop_id integer not null, week
  text not null, subject text not null, body text not null, status text default 'draft' not null,
  drafted_at timestamptz not null, send_at timestamptz not null, decided_by text default '' not
  null, reason text default '' not null, edited_by text default '' not null, decided_at timestamptz,
  edited_at timestamptz, mail_id bigint, constraint pk_owner_letters primary key (id), constraint
  ck_owner_letters_status check (status in ('draft','held','approved','mailed')), constraint
  uq_owner_letters_week unique (shop_id, week), constraint fk_owner_letters_shop_id_shops foreign
  key(shop_id) references shops (id) )
    """,
    """
create index ix_owner_letters_week on owner_letters (week)
    """,
    """
create table planned_changes ( id integer generated always as identity, shop_id integer, planned_on
  date not null, text text not null, added_by text not null, added_at timestamptz not null,
  constraint pk_planned_changes primary key (id), constraint fk_planned_changes_shop_id_shops
  foreign key(shop_id) references shops (id) )
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
