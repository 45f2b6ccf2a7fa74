"""Merchants and their pages at Notion: cache, invalidations, and the parts of each page"""

from alembic import op

revision = "s0023"
down_revision = "s0022"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
alter table interactions add column merchant_id bigint, add column page_id text default '' not null,
  add column page_state text default '' not null
    """,
    """
create table merchants ( id bigint generated always as identity, shop_id integer not null, uuid uuid
  default gen_random_uuid() not null, name text default '' not null, contact_id text default '' not
  null, phones text[] default '{}' not null, mails text[] default '{}' not null, page_id text
  default '' not null, page_values text default '' not null, created_at timestamptz not null,
  changed_at timestamptz not null, page_attempted_at timestamptz, redacted_at timestamptz,
  constraint pk_merchants primary key (id),
  constraint uq_merchants_uuid unique (uuid) )
    """,
    "create index ix_merchants_shop_id on merchants (shop_id, id)",
    "create index ix_merchants_phones on merchants using gin (phones)",
    "create index ix_merchants_mails on merchants using gin (mails)",
    """
create table canvas_cache ( shop_id integer not null, address text not null, merchant_id bigint not
  null, page_id text default '' not null, checked_at timestamptz not null, expires_at timestamptz not
  null, constraint pk_canvas_cache primary key (shop_id, address) )
    """,
    "create index ix_canvas_cache_merchant_id on canvas_cache (merchant_id)",
    "create index ix_canvas_cache_expires_at on canvas_cache (shop_id, expires_at)",
    """
create table canvas_invalidations ( id bigint generated always as identity, shop_id integer not null,
  merchant_id bigint not null, at timestamptz not null, by text not null, constraint
  pk_canvas_invalidations primary key (id) )
    """,
    "create index ix_canvas_invalidations_merchant_id on canvas_invalidations (merchant_id, at)",
    """
create table page_parts ( shop_id integer not null, interaction_id text not null, part text not null,
  merchant_id bigint not null, wanted text not null, written text default '' not null, block_ids
  text[] default '{}' not null, changed_at timestamptz not null, attempted_at timestamptz, constraint
  pk_page_parts primary key (shop_id, interaction_id, part) )
    """,
    "create index ix_page_parts_merchant_id on page_parts (merchant_id)",
    "create index ix_page_parts_pending on page_parts (merchant_id) where wanted <> written",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
