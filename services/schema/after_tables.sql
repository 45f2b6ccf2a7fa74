-- The parts of a new database that no tables.py defines.

-- Bodies are stored as received: compressing 4 KB of JSON costs more than the insert around it.
alter table inbound_events alter column body set storage external, set (toast_tuple_target = 8160);
-- A mail is updated before and after it is sent: its text is out of line, so that no update copies it.
alter table mail_outbox set (toast_tuple_target = 256);
-- Rows of the queue are updated several times and finish soon, so vacuum must run often.
alter table work_queue set (
  fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05,
  autovacuum_analyze_scale_factor = 0.05
);

-- Old rows are deleted every night: vacuum runs long before a fifth of a large table is dead.
alter table inbound_events
  set (autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_scale_factor = 0.02);
alter table work_stats set (autovacuum_vacuum_scale_factor = 0.05);
alter table request_counts set (autovacuum_vacuum_scale_factor = 0.05);
alter table job_runs set (autovacuum_vacuum_scale_factor = 0.05);

-- The body of an event as JSON; null if it is none.
create function read_json(body bytea) returns jsonb language plpgsql immutable parallel safe cost 1000 as $$
begin
  return convert_from(body, 'UTF8')::jsonb;
exception when data_exception or program_limit_exceeded then
  return null;
end $$;

-- One row per change of an audit event.
create view audit_mutations as
select e.id as event_id, m.table_name, m.row_id, m.summary, nullif(m.before, 'null'::jsonb) as before,
       nullif(m.after, 'null'::jsonb) as after, m.n as place
  from audit_events e
 cross join lateral rows from (
         jsonb_to_recordset(e.mutations::jsonb)
           as (table_name text, row_id text, summary text, before jsonb, after jsonb)
       ) with ordinality as m(table_name, row_id, summary, before, after, n);

-- Runs once per statement, not per row. A join could read the whole table: hence subqueries. "is not distinct from"
-- uses no index: hence two of them.
create function audit_events_follow() returns trigger language plpgsql as $$
declare
  wrong record;
begin
  select a.shop_id, a.seq into wrong from added a
   where a.prev_hash is distinct from case
           when a.seq = 1 then repeat('0', 64)
           when a.shop_id is null then
             (select e.hash from public.audit_events e where e.shop_id is null and e.seq = a.seq - 1)
           else (select e.hash from public.audit_events e where e.shop_id = a.shop_id and e.seq = a.seq - 1)
         end
   limit 1;
  if found then
    raise exception 'row % does not follow the row before it in the audit chain of %', wrong.seq,
      coalesce('shop ' || wrong.shop_id, 'the fleet')
      using errcode = 'check_violation', hint = 'Only services.audit.append writes audit events.';
  end if;
  return null;
end $$;

create trigger audit_events_follow after insert on audit_events referencing new table as added
  for each statement execute function audit_events_follow();

-- Runs as the owner of the tables. The application's role can write the row of audit_archives and the event that are
-- checked here, so these checks alone prove nothing: the archive job verifies before it calls this function.
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
end $$;

revoke all on function audit_truncate(integer, bigint, text) from public;
