-- The functions of the shop floor. Each `fleet migrate` runs this file; it may run again.
-- They run as shopfleet_floor, a role without login: the application's role can write the tables only through them.

create or replace function floor_stages(of_shop integer) returns text[]
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select coalesce((select s.stages from public.stage_sets s where s.shop_id = of_shop),
                  array['Filling', 'Covering', 'Decorating', 'Packing', 'Complete'])
$$;

-- The person of a session or an API token, and what this credential allows at the shop: rank 1 floor, 2 viewer,
-- 3 operator, 4 admin, 5 owner. A session that a password alone began has at most rank 3. Null: no such person.
create or replace function floor_person(
  token text, of_shop integer, out user_id integer, out name text, out rank integer, out may_scan boolean
) language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  with ranks as (
    select r.role, r.n::integer from unnest(array['floor', 'viewer', 'operator', 'admin', 'owner'])
           with ordinality as r(role, n)
  ), proof as (
    select s.user_id, case when s.has_second_factor then 5 else 3 end as most
      from public.user_sessions s
     where s.token_hash = sha256(convert_to(token, 'UTF8')) and s.ends_at > clock_timestamp()
       and s.seen_at > clock_timestamp() - interval '12 hours'
     union all
    select t.user_id, k.n from public.api_tokens t join ranks k on k.role = t.role
     where t.token_hash = sha256(convert_to(token, 'UTF8')) and t.ends_at > clock_timestamp()
  )
  select u.id, u.name, max(least(k.n, p.most)), bool_or(least(k.n, p.most) <> 2)
    from proof p
    join public.users u on u.id = p.user_id and u.active
    join public.user_roles r on r.user_id = u.id and (r.shop_id = of_shop or r.shop_id is null)
    join ranks k on k.role = r.role
   group by u.id, u.name
$$;

create or replace function floor_allowed(stages text[], stage text, is_held boolean, is_cancelled boolean)
returns text[] language sql immutable set search_path = pg_catalog, pg_temp as $$
  select case when is_cancelled then case when is_held then array['release'] else '{}' end
              when stage = stages[cardinality(stages)] then '{}'
              when is_held then array['finish ' || stage]
              else array['start ' || stage] end
$$;

-- Puts an order that has a row in orders on the board, if it is not there.
create or replace function floor_add(of_shop integer, of_order text) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
  insert into public.floor_orders (shop_id, order_gid, name, stage, arrived_at, moved_at, cancelled_at)
  select o.shop_id, o.order_gid, o.name,
         case when o.stage = any(public.floor_stages(of_shop)) then o.stage
              else (public.floor_stages(of_shop))[1] end,
         clock_timestamp(), clock_timestamp(), o.cancelled_at
    from public.orders o
   where o.shop_id = of_shop and o.order_gid = of_order and o.deleted_at is null
     and not exists (select from public.floor_orders f where f.shop_id = of_shop and f.order_gid = of_order)
      on conflict do nothing
$$;

-- One action of the person of `token` on an order: scan (start or finish, whichever is next), start, finish, undo,
-- assign, release (of a cancelled order). A scan id has one effect: repeated, it gets the first answer, and is_new
-- is false. at_stage: the stage that the person sees; '' is the present one.
create or replace function floor_transition(
  token text, of_shop integer, of_order text, scan uuid, wanted text, at_stage text, assignee integer,
  out answer jsonb, out is_new boolean
) language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  person record;
  earlier record;
  held public.order_stages;
  found_order public.floor_orders;
  stages text[];
  place integer;
  moment timestamptz;
  action text := wanted;
  code text := 'OK';
  stage_after text;
  holder_after integer;
  completed timestamptz;
begin
  is_new := false;
  select * into person from public.floor_person(token, of_shop);
  if person.user_id is null then
    answer := jsonb_build_object('code', 'NOT_SIGNED_IN');
    return;
  elsif not person.may_scan or (wanted = 'undo' and person.rank < 4) then
    answer := jsonb_build_object('code', 'NOT_ALLOWED', 'by', person.name, 'action', wanted);
    return;
  elsif wanted <> all(array['scan', 'start', 'finish', 'undo', 'assign', 'release']) then
    raise exception 'unknown action %', wanted using errcode = 'invalid_parameter_value';
  end if;
  -- A change of the shop's stages waits for the scans that read them.
  perform pg_advisory_xact_lock_shared(1179406162, of_shop);
  perform public.floor_add(of_shop, of_order);
  select f.* into found_order from public.floor_orders f
   where f.shop_id = of_shop and f.order_gid = of_order for update;
  if not found then
    answer := jsonb_build_object('code', 'UNKNOWN_ORDER', 'order', of_order, 'by', person.name);
    return;
  end if;
  select t.* into earlier from public.stage_transitions t where t.shop_id = of_shop and t.scan_id = scan;
  if found then
    answer := case when (earlier.order_gid, earlier.user_id, earlier.answer ->> 'wanted')
                        = (of_order, person.user_id, wanted) then earlier.answer
                   else jsonb_build_object('code', 'SCAN_ID_TAKEN', 'order', of_order, 'by', person.name) end;
    return;
  end if;

  stages := public.floor_stages(of_shop);
  place := array_position(stages, found_order.stage);
  moment := greatest(clock_timestamp(), found_order.moved_at);
  stage_after := found_order.stage;
  holder_after := found_order.holder_id;
  completed := found_order.completed_at;
  if wanted = 'scan' then
    action := case when found_order.cancelled_at is not null then 'release'
                   when found_order.holder_id is null then 'start' else 'finish' end;
  end if;
  if found_order.holder_id is not null then
    select s.* into held from public.order_stages s
     where s.shop_id = of_shop and s.order_gid = of_order and s.stage = found_order.stage;
  end if;
  code := case
    when action = 'assign' then case
      when assignee is null or exists (
        select from public.users u join public.user_roles r on r.user_id = u.id
         where u.id = assignee and u.active and r.role <> 'viewer'
           and (r.shop_id = of_shop or r.shop_id is null)) then 'OK' else 'UNKNOWN_PERSON' end
    when found_order.cancelled_at is not null and action <> 'release' then 'ORDER_CANCELLED'
    when at_stage not in ('', found_order.stage) then 'INVALID_STAGE'
    when action = 'release' then case
      when found_order.cancelled_at is null or found_order.holder_id is null then 'INVALID_STAGE'
      when found_order.holder_id <> person.user_id and person.rank < 3 then 'STAGE_TAKEN' else 'OK' end
    when action = 'undo' then case
      when found_order.holder_id is not null then 'OK'
      when exists (select from public.order_stages s
                    where s.shop_id = of_shop and s.order_gid = of_order and s.stage = stages[place - 1])
      then 'OK' else 'INVALID_STAGE' end
    when place = cardinality(stages) then 'INVALID_STAGE'
    when found_order.holder_id <> person.user_id and (wanted <> 'finish' or person.rank < 3) then 'STAGE_TAKEN'
    when (action = 'start') = (found_order.holder_id is not null) then 'INVALID_STAGE'
    else 'OK' end;

  if code = 'OK' and action = 'start' then
    holder_after := person.user_id;
    insert into public.order_stages (shop_id, order_gid, stage, started_at, started_by_id, started_by)
    values (of_shop, of_order, found_order.stage, moment, person.user_id, person.name);
  elsif code = 'OK' and action = 'finish' then
    holder_after := null;
    stage_after := stages[place + 1];
    update public.order_stages s set finished_at = moment, finished_by = person.name
     where s.shop_id = of_shop and s.order_gid = of_order and s.stage = found_order.stage;
    if place + 1 = cardinality(stages) then
      completed := moment;
      insert into public.order_stages (shop_id, order_gid, stage, started_at, started_by_id, started_by,
                                       finished_at, finished_by)
      values (of_shop, of_order, stage_after, moment, person.user_id, person.name, moment, person.name);
    end if;
  elsif code = 'OK' and action = 'undo' then
    delete from public.order_stages s
     where s.shop_id = of_shop and s.order_gid = of_order and s.stage = found_order.stage;
    holder_after := null;
    if found_order.holder_id is null then
      stage_after := stages[place - 1];
      completed := null;
      update public.order_stages s set finished_at = null, finished_by = null
       where s.shop_id = of_shop and s.order_gid = of_order and s.stage = stage_after
      returning s.started_by_id into holder_after;
    end if;
  elsif code = 'OK' and action = 'release' then
    holder_after := null;
  end if;

  answer := jsonb_strip_nulls(jsonb_build_object(
    'code', code, 'order', of_order, 'name', found_order.name, 'wanted', wanted, 'action', action,
    'stage', found_order.stage, 'stage_after', stage_after, 'by', person.name, 'at', moment,
    'holder', case when code <> 'OK' then held.started_by end,
    'held_since', case when code <> 'OK' then held.started_at end,
    'assignee', case when action = 'assign' and code = 'OK'
                     then coalesce((select u.name from public.users u where u.id = assignee), '') end,
    'allowed', public.floor_allowed(stages, stage_after, holder_after is not null,
                                    found_order.cancelled_at is not null)));
  insert into public.stage_transitions (shop_id, order_gid, scan_id, action, stage, code, user_id, answer, at)
  values (of_shop, of_order, scan, action, found_order.stage, code, person.user_id, answer, moment);
  is_new := true;
  if code = 'OK' then
    update public.floor_orders f
       set stage = stage_after, holder_id = holder_after, completed_at = completed, moved_at = moment,
           assignee_id = case when action = 'assign' then assignee else f.assignee_id end
     where f.shop_id = of_shop and f.order_gid = of_order;
    update public.orders o set stage = stage_after
     where o.shop_id = of_shop and o.order_gid = of_order and o.stage <> stage_after;
  end if;
end $$;

-- Replaces the stages of a shop. Every open order must be at one of them.
create or replace function floor_set_stages(token text, of_shop integer, wanted text[]) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  person record;
  before text[];
  stranded text[];
begin
  select * into person from public.floor_person(token, of_shop);
  if person.user_id is null then
    return jsonb_build_object('code', 'NOT_SIGNED_IN');
  elsif person.rank < 4 then
    return jsonb_build_object('code', 'NOT_ALLOWED', 'by', person.name, 'action', 'set');
  end if;
  perform pg_advisory_xact_lock(1179406162, of_shop);
  before := public.floor_stages(of_shop);
  if cardinality(wanted) not between 2 and 12
     or exists (select from unnest(wanted) w where w is null or w !~ '^[^[:cntrl:]]{1,40}$' or w <> trim(w))
     or (select count(distinct lower(w)) from unnest(wanted) w) <> cardinality(wanted) then
    return jsonb_build_object('code', 'INVALID_STAGES', 'before', before);
  end if;
  select array_agg(distinct f.stage) into stranded from public.floor_orders f
   where f.shop_id = of_shop and f.completed_at is null and f.cancelled_at is null
     and f.stage <> all(wanted[:cardinality(wanted) - 1]);
  if stranded is not null then
    return jsonb_build_object('code', 'STAGE_IN_USE', 'stages', stranded, 'before', before);
  end if;
  insert into public.stage_sets as s (shop_id, stages, changed_at, changed_by)
  values (of_shop, wanted, clock_timestamp(), person.name)
  on conflict (shop_id) do update
     set stages = excluded.stages, changed_at = excluded.changed_at, changed_by = excluded.changed_by;
  return jsonb_build_object('code', 'OK', 'before', before, 'stages', wanted, 'by', person.name);
end $$;

-- Writes what Shopify says about orders: topic stage_sync. It never moves an order to another stage.
create or replace function floor_sync(items jsonb) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
  insert into public.floor_orders as f (
    shop_id, order_gid, name, stage, storage, notes, changes, lines, assignee_id, version, arrived_at, moved_at,
    due_at, changed_at, cancelled_at)
  select v.shop_id, v.order_gid, v.name,
         case when o.stage = any(public.floor_stages(v.shop_id)) then o.stage
              else (public.floor_stages(v.shop_id))[1] end,
         v.storage, v.notes, v.changes, v.lines, v.assignee_id, v.version, clock_timestamp(),
         clock_timestamp(), v.due_at, v.changed_at, v.cancelled_at
    from jsonb_to_recordset(items) as v(
           shop_id integer, order_gid text, name text, storage text, notes text, changes text, lines jsonb,
           assignee_id integer, version bigint, due_at timestamptz, changed_at timestamptz,
           cancelled_at timestamptz)
    left join public.orders o on o.shop_id = v.shop_id and o.order_gid = v.order_gid
   order by v.shop_id, v.order_gid
  on conflict (shop_id, order_gid) do update
     set name = excluded.name, storage = excluded.storage, notes = excluded.notes, lines = excluded.lines,
         changes = excluded.changes, assignee_id = coalesce(excluded.assignee_id, f.assignee_id),
         version = excluded.version, due_at = excluded.due_at,
         changed_at = excluded.changed_at, cancelled_at = excluded.cancelled_at
   where f.version < excluded.version;
  update public.orders o set stage = f.stage
    from public.floor_orders f, jsonb_to_recordset(items) as v(shop_id integer, order_gid text)
   where f.shop_id = v.shop_id and f.order_gid = v.order_gid and o.shop_id = v.shop_id
     and o.order_gid = v.order_gid and o.stage <> f.stage
$$;

-- Removes the texts about a customer from these orders, or with null from all orders of the shop; returns how many.
create or replace function floor_redact(of_shop integer, order_gids text[]) returns bigint
language sql security definer set search_path = pg_catalog, pg_temp as $$
  with emptied as (
    update public.floor_orders f set notes = '', storage = '', changes = '', lines = '[]'
     where f.shop_id = of_shop and (order_gids is null or f.order_gid = any(order_gids))
       and (f.notes, f.storage, f.changes, f.lines) is distinct from ('', '', '', '[]'::jsonb)
    returning 1)
  select count(*) from emptied
$$;

-- Deletes the rows of a removed shop; returns a row for each.
create or replace function floor_forget(of_shop integer) returns setof text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (select from public.shop_config c where c.shop_id = of_shop and c.settings ? 'removed_at') then
    raise exception 'shop % is not removed', of_shop using errcode = 'check_violation';
  end if;
  return query delete from public.stage_transitions t where t.shop_id = of_shop returning 'stage_transitions';
  return query delete from public.order_stages s where s.shop_id = of_shop returning 'order_stages';
  return query delete from public.floor_orders f where f.shop_id = of_shop returning 'floor_orders';
  return query delete from public.stage_sets s where s.shop_id = of_shop returning 'stage_sets';
end $$;

-- The owner of the functions. A role that may not create it leaves them with the role that migrates: see
-- docs/production.md.
do $do$
declare
  one regprocedure;
begin
  for one in select p.oid from pg_proc p
              where p.pronamespace = 'public'::regnamespace and p.proname like 'floor\_%'
  loop
    execute format('revoke all on function %s from public', one);
  end loop;
  if not exists (select from pg_roles where rolname = 'shopfleet_floor') then
    begin
      create role shopfleet_floor nologin;
      execute format('grant shopfleet_floor to %I', current_user);
    exception when insufficient_privilege or duplicate_object or unique_violation then null;
    end;
  end if;
  begin
    grant usage, create on schema public to shopfleet_floor;
    grant select, insert, update, delete on stage_sets, floor_orders, order_stages, stage_transitions
      to shopfleet_floor;
    grant select on orders, shop_config, users, user_roles, user_sessions, api_tokens to shopfleet_floor;
    grant update (stage) on orders to shopfleet_floor;
    for one in select p.oid from pg_proc p
                where p.pronamespace = 'public'::regnamespace and p.proname like 'floor\_%'
    loop
      execute format('alter function %s owner to shopfleet_floor', one);
    end loop;
    revoke create on schema public from shopfleet_floor;
  exception when insufficient_privilege or undefined_object then
    raise warning 'the functions of the shop floor are owned by %: create the role shopfleet_floor', current_user;
  end;
end $do$;
