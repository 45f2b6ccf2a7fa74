"""Row numbers, times and keys of the audit have a range, and a new row follows the head of its chain"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_MAX_SEQ = 2**53
_TIME = "{0} >= '1970-01-01Z' and {0} < '3000-01-01Z'"
_SEQ = f"{{0}} between 1 and {_MAX_SEQ}"
_KEY = (
    "{0} ~ ('^events/' || coalesce('shop-' || shop_id, 'fleet') || '/[0-9]{{12,16}}-[0-9]{{12,16}}[.]{1}$')"
)

_CHECKS = (
    ("audit_events", "seq", _SEQ.format("seq")),
    ("audit_events", "at", _TIME.format("at")),
    ("audit_checkpoints", "seq", _SEQ.format("seq")),
    ("audit_checkpoints", "at", _TIME.format("at")),
    ("audit_archives", "first_seq", _SEQ.format("first_seq")),
    ("audit_archives", "last_seq", f"last_seq between first_seq and {_MAX_SEQ}"),
    ("audit_archives", "event_seq", _SEQ.format("event_seq")),
    ("audit_archives", "archived_at", _TIME.format("archived_at")),
    ("audit_archives", "retained_until", _TIME.format("retained_until")),
    ("audit_archives", "object_key", _KEY.format("object_key", "jsonl[.]gz")),
    ("audit_archives", "manifest_key", _KEY.format("manifest_key", "manifest[.]json")),
)


# A row that is there already does not stop the migration: `verify` reports it.
_CHECK = """
do $do$ begin
  {0};
exception when check_violation then
  {0} not valid;
end $do$
"""


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    for table, column, check in _CHECKS:
        op.execute(_CHECK.format(f"alter table {table} add constraint ck_{table}_{column} check ({check})"))
    op.execute(_FOLLOW)
    op.execute(
        "create trigger audit_events_follow after insert on audit_events referencing new table as added"
        " for each statement execute function audit_events_follow()"
    )


def downgrade() -> None:
    op.execute("drop trigger audit_events_follow on audit_events")
    op.execute("drop function audit_events_follow()")
    for table, column, _ in reversed(_CHECKS):
        op.execute(f"alter table {table} drop constraint ck_{table}_{column}")


# Once for a statement, not for each row; with a subquery, as a join may read the whole table. The question is
# there twice, as "is not distinct from" finds no index.
_FOLLOW = """
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
end $$
"""
