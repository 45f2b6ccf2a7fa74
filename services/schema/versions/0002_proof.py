"""Proof: a chain keeps the text it hashed; checkpoints and archives"""

import sqlalchemy as sa
from alembic import op

from services.audit.chain import FIRST_PREV_HASH, AuditEvent, Mutation, hash_event, mutations_text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.add_column("audit_events", sa.Column("work_id", sa.BigInteger(), nullable=True))
    op.add_column("audit_events", sa.Column("mutations", sa.Text(), nullable=True))
    _chain_anew()
    op.alter_column("audit_events", "mutations", nullable=False)
    op.drop_table("audit_mutations")
    op.execute(_VIEW)
    op.drop_index("ix_audit_events_at", table_name="audit_events")
    op.create_index("ix_audit_events_at", "audit_events", ["at"], postgresql_using="brin")
    op.create_index(
        "uq_audit_events_work_id",
        "audit_events",
        ["work_id"],
        unique=True,
        postgresql_where=sa.text("work_id is not null"),
    )
    op.create_table(
        "audit_checkpoints",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("shop_id", sa.Integer(), nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_checkpoints")),
        sa.UniqueConstraint(
            "shop_id",
            "seq",
            "public_key",
            name="uq_audit_checkpoints_seq",
            postgresql_nulls_not_distinct=True,
        ),
    )
    op.create_table(
        "audit_archives",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("shop_id", sa.Integer(), nullable=True),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("first_prev_hash", sa.Text(), nullable=False),
        sa.Column("last_hash", sa.Text(), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("object_sha256", sa.Text(), nullable=False),
        sa.Column("object_bytes", sa.BigInteger(), nullable=False),
        sa.Column("manifest_key", sa.Text(), nullable=False),
        sa.Column("manifest_sha256", sa.Text(), nullable=False),
        sa.Column("event_seq", sa.BigInteger(), nullable=False),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retained_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_archives")),
        sa.UniqueConstraint(
            "shop_id", "first_seq", name="uq_audit_archives_first_seq", postgresql_nulls_not_distinct=True
        ),
    )
    op.execute(_TRUNCATE)
    op.execute("revoke all on function audit_truncate(integer, bigint) from public")


# Runs as the tables' owner: the application may not delete an event, but it may have this function do it.
_TRUNCATE = """
create function audit_truncate(of_shop integer, through bigint) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan as $$
declare
  archive record;
  head bigint;
  young timestamptz;
  cut bigint;
begin
  select a.first_seq, a.last_seq, a.last_hash, a.manifest_sha256, a.event_seq into archive
    from public.audit_archives a where a.shop_id is not distinct from of_shop and a.last_seq = through;
  if not found then
    raise exception 'no archive of this chain ends with row %', through using errcode = 'check_violation';
  end if;
  select max(e.seq) into head from public.audit_events e
   where (e.shop_id = of_shop or of_shop is null and e.shop_id is null);
  if head is null or head <= through or archive.event_seq <= through then
    raise exception 'row % is not before the head of its chain', through using errcode = 'check_violation';
  end if;
  perform from public.audit_events e
    where (e.shop_id = of_shop or of_shop is null and e.shop_id is null)
      and e.seq = archive.event_seq and e.action = 'audit.archive'
      and (e.mutations::jsonb #> '{0,after}') @> jsonb_build_object(
            'manifest_sha256', archive.manifest_sha256, 'first_seq', archive.first_seq,
            'last_seq', through, 'last_hash', archive.last_hash);
  if not found then
    raise exception 'row % does not carry this archive''s sums', archive.event_seq
      using errcode = 'check_violation';
  end if;
  perform from public.audit_events e
    where (e.shop_id = of_shop or of_shop is null and e.shop_id is null)
      and e.seq = through and e.hash = archive.last_hash;
  if not found then
    raise exception 'row % is not the one that was archived', through using errcode = 'check_violation';
  end if;
  perform from public.audit_events e
    where (e.shop_id = of_shop or of_shop is null and e.shop_id is null)
      and e.seq < archive.first_seq;
  if found then
    raise exception 'rows before % are not in this archive', archive.first_seq
      using errcode = 'check_violation';
  end if;
  select max(e.at) into young from public.audit_events e
   where (e.shop_id = of_shop or of_shop is null and e.shop_id is null) and e.seq <= through;
  if young > clock_timestamp() - interval '90 days' then
    raise exception 'a row of % is younger than 90 days', young using errcode = 'check_violation';
  end if;
  delete from public.audit_events e
   where (e.shop_id = of_shop or of_shop is null and e.shop_id is null) and e.seq <= through;
  get diagnostics cut = row_count;
  return cut;
end $$
"""

_VIEW = """
create view audit_mutations as
select e.id as event_id, m.table_name, m.row_id, m.summary, nullif(m.before, 'null'::jsonb) as before,
       nullif(m.after, 'null'::jsonb) as after, m.n as place
  from audit_events e
 cross join lateral rows from (
         jsonb_to_recordset(e.mutations::jsonb)
           as (table_name text, row_id text, summary text, before jsonb, after jsonb)
       ) with ordinality as m(table_name, row_id, summary, before, after, n)
"""

_OLD = """
select e.id, e.shop_id, e.seq, e.at, e.staff_label, e.action, e.request_id, coalesce((
         select jsonb_agg(jsonb_build_object('table_name', m.table_name, 'row_id', m.row_id,
                                             'summary', m.summary, 'before', m.before, 'after', m.after)
                          order by m.id)
           from audit_mutations m where m.event_id = e.id), '[]')
  from audit_events e order by e.shop_id nulls first, e.seq
"""


def _chain_anew() -> None:
    """What an unreleased version wrote is chained again in the form that stays.

    Only rows of 0001 are ever touched; from here on nothing but ``verify`` reads a chain as a whole.
    """
    tx = op.get_bind()
    last: dict[int | None, str] = {}
    for row_id, shop_id, seq, at, staff_label, action, request_id, found in tx.exec_driver_sql(_OLD).all():
        text = mutations_text([Mutation(**one) for one in found])
        event = AuditEvent(shop_id, seq, at, staff_label, action, request_id, None, text)
        prev_hash = last.get(shop_id, FIRST_PREV_HASH)
        last[shop_id] = hash_event(prev_hash, event)
        values = {"id": row_id, "mutations": text, "prev_hash": prev_hash, "hash": last[shop_id]}
        tx.exec_driver_sql(
            "update audit_events set mutations = %(mutations)s, prev_hash = %(prev_hash)s, hash = %(hash)s "
            "where id = %(id)s",
            values,
        )


def downgrade() -> None:
    raise NotImplementedError("a chain cannot be taken back to its older form: restore the backup instead")
