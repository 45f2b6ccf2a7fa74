"""The heartbeats of beat, and the release that runs."""

from datetime import datetime

from sqlalchemy import Connection

from services.audit.append import Mutation, append_change
from services.ledger.health import HEARTBEAT_LIMIT

_LIMIT = f"{HEARTBEAT_LIMIT.seconds} s"
_SENT = f"""
insert into heartbeats as h (name, at, detail)
values ('beat', %(now)s, jsonb_build_object('since', %(now)s::timestamptz))
on conflict (name) do update set at = excluded.at, detail =
  case when h.at between excluded.at - interval '{_LIMIT}' and excluded.at + interval '{_LIMIT}'
            and h.detail ? 'since'
       then h.detail - 'refused_at' else excluded.detail end
"""  # noqa: S608 - constants only
_REFUSED = """
update heartbeats set detail = detail || jsonb_build_object('refused_at', %(now)s::timestamptz)
 where name = 'beat'
"""
_RELEASED = """
insert into heartbeats as h (name, at, detail)
values ('release', %(now)s, jsonb_build_object('release', %(release)s::text))
on conflict (name) do update set at = excluded.at, detail = excluded.detail where h.detail <> excluded.detail
returning (select detail ->> 'release' from heartbeats where name = 'release') as before
"""


def record_release(tx: Connection, release: str, now: datetime) -> None:
    """Record in the fleet's audit that ``release`` runs now, if another one ran before."""
    if (row := tx.exec_driver_sql(_RELEASED, {"release": release, "now": now}).first()) is None:
        return
    summary = f"release {row.before} was replaced by {release}" if row.before else f"release {release} began"
    before = {"release": row.before} if row.before else None
    change = Mutation("heartbeats", "release", summary, before, {"release": release})
    append_change(tx, "deploy", {None: [change]}, by="beat", now=now)


def record_beat(tx: Connection, now: datetime, *, is_refused: bool) -> None:
    """Record that the broker took messages of beat at ``now``, or that it took none."""
    tx.exec_driver_sql(_REFUSED if is_refused else _SENT, {"now": now})
