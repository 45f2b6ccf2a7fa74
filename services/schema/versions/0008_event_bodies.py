"""Bodies of events as JSON for searches; the copies of an event, and what people did, for its timeline"""

from alembic import op

revision = "s0008"
down_revision = "s0007"
branch_labels = None
depends_on = None

_STATEMENTS = """
create index ix_inbound_events_replay_of on inbound_events (replay_of) where replay_of is not null;
create index ix_audit_events_by_people on audit_events (shop_id, id) where work_id is null;
create function read_json(body bytea) returns jsonb language plpgsql immutable parallel safe cost 1000 as $$
begin
  return convert_from(body, 'UTF8')::jsonb;
exception when data_exception or program_limit_exceeded then
  return null;
end $$;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_STATEMENTS, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
