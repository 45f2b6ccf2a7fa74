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


# Once for a statement, not for each row: the hashes within a statement are for `verify`. The question is
# there twice, as "is not distinct from" finds no index.
_FOLLOWS = f"""
    perform from public.audit_events f
      where OF_CHAIN(f) and f.seq = part.first_seq
        and (part.first_seq = 1 and f.prev_hash = repeat('0', 64)
             or exists (select from public.audit_events b
                         where OF_CHAIN(b) and b.seq = part.first_seq - 1 and b.hash = f.prev_hash))
        and not exists (select from public.audit_events n
                         where OF_CHAIN(n) and n.seq > part.last_seq and n.seq <= {_MAX_SEQ});
"""  # noqa: S608 - the number is our own


def _follows(words: str) -> str:
    text = _FOLLOWS
    for name in "fbn":
        text = text.replace(f"OF_CHAIN({name})", words.format(name))
    return text


_FOLLOW = f"""
create function audit_events_follow() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  part record;
begin
  for part in select a.shop_id, min(a.seq) as first_seq, max(a.seq) as last_seq, count(*) as total
                from added a group by a.shop_id
  loop
    if part.shop_id is null then
      {_follows("{0}.shop_id is null")}
    else
      {_follows("{0}.shop_id = part.shop_id")}
    end if;
    if not found or part.total <> part.last_seq - part.first_seq + 1 then
      raise exception 'rows % to % do not follow the head of the audit chain of %', part.first_seq,
        part.last_seq, coalesce('shop ' || part.shop_id, 'the fleet')
        using errcode = 'check_violation', hint = 'Only services.audit.append writes audit events.';
    end if;
  end loop;
  return null;
end $$
"""  # noqa: S608 - the text is our own
