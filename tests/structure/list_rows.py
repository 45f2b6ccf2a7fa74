"""Statements that insert rows for lists of commands."""

TWO_PEOPLE = """
with p as (
  insert into outreach_people (shop_id, external_id, email, signed_up_at, created_at, changed_at)
  values (1, %(id)s, 'ada@example.com', '2026-01-01', now(), now()) returning id, shop_id)
insert into outreach_consents (person_id, shop_id, basis, source, given_at, created_at)
select id, shop_id, 'express', 'form', now(), now() from p
"""
TWO_RUNS = """
with r as (
  insert into reports (shop_id, name, kind, covers, schedule, recipients, formats, overtime, week_begins,
                       created_at, changed_at)
  values (1, %(period)s, 'payroll', 'week', '0 6 * * 1', '{}', '{}', 'none', 'monday', now(), now())
  returning id)
insert into report_runs (report_id, shop_id, period, due_at, origin, started_by)
select id, 1, %(period)s, now(), 'cli', 'ada' from r
"""
A_LETTER = """
insert into owner_letters (shop_id, week, subject, body, drafted_at, send_at)
values (1, %(week)s, 'a', 'a', now(), now())
"""
A_FLOOR_ORDER = """
select floor_sync(jsonb_build_array(jsonb_build_object(
  'shop_id', 1, 'order_gid', %(n)s::text, 'name', '', 'storage', '', 'notes', '', 'changes', '',
  'lines', '[]'::jsonb, 'version', 1)))
"""
