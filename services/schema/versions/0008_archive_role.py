"""Only the archive role cuts archived events, and it names the manifest that it verified"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    # A function of another signature has no grants: the application's role loses its right here.
    op.execute("drop function audit_truncate(integer, bigint)")
    op.execute(_TRUNCATE)
    op.execute("revoke all on function audit_truncate(integer, bigint, text) from public")


# Runs as the owner of the tables. The application's role can write the note in audit_archives and the event
# that are looked up here, so these checks alone prove nothing: the archive job verifies before it calls this.
_TRUNCATE = """
create function audit_truncate(of_shop integer, through bigint, manifest text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan as $$
declare
  archive record;
  head bigint;
  young timestamptz;
  cut bigint;
begin
  select a.first_seq, a.last_hash, a.event_seq into archive
    from public.audit_archives a
   where a.shop_id is not distinct from of_shop and a.last_seq = through and a.manifest_sha256 = manifest;
  if not found then
    raise exception 'no archive of this chain ends with row % and has the manifest %', through, manifest
      using errcode = 'check_violation';
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
            'manifest_sha256', manifest, 'first_seq', archive.first_seq,
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


def downgrade() -> None:
    raise NotImplementedError(
        "the older function believed what its caller can write: restore the backup instead"
    )
