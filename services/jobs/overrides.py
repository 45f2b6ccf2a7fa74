"""What a person changes of a job's schedule. It holds from beat's next tick on, without a restart."""

from datetime import datetime
from types import MappingProxyType

from sqlalchemy import Connection

from services.audit.append import Mutation, append_audit
from services.jobs.definition import Job
from services.jobs.schedule import parse_schedule
from services.shops.shops import Shop

_CHANGE = """
insert into job_overrides as o (job, shop_id, schedule, enabled, reason, changed_at, changed_by)
values (%(job)s, %(shop_id)s, %(schedule)s, %(enabled)s, %(reason)s, %(now)s, %(by)s)
on conflict on constraint uq_job_overrides_scope do update set
   schedule = case when %(keeps_schedule)s then o.schedule else excluded.schedule end,
   enabled = case when %(keeps_enabled)s then o.enabled else excluded.enabled end,
   reason = excluded.reason, changed_at = excluded.changed_at, changed_by = excluded.changed_by
returning schedule, enabled
"""

_SWITCHED = MappingProxyType(
    {True: "is switched on", False: "is switched off", None: "is on or off as the job as a whole again"}
)

_IS_OFF = "select enabled is false from job_overrides where job = %(job)s and shop_id is null"

_FIND = """
select schedule, enabled from job_overrides
 where job = %(job)s and shop_id is not distinct from %(shop_id)s::int for update
"""


def change_schedule(
    tx: Connection,
    job: Job,
    shop: Shop | None,
    schedule: str | None,
    *,
    by: str,
    reason: str = "",
    now: datetime,
    request_id: str = "",
) -> None:
    """``job`` runs by ``schedule`` from now on, at ``shop`` or everywhere; None: as the table says again.

    Raises ``ScheduleInvalid``. What was due before now still runs by the old schedule.
    """
    cleaned = None if schedule is None else parse_schedule(schedule)
    said = f"{job.name} runs by {cleaned!r}" if cleaned else f"{job.name} runs by its own schedule again"
    _change(tx, job, shop, said, {"schedule": cleaned}, by=by, reason=reason, now=now, request_id=request_id)


def switch_job(
    tx: Connection,
    job: Job,
    shop: Shop | None,
    enabled: bool | None,
    *,
    by: str,
    reason: str = "",
    now: datetime,
    request_id: str = "",
) -> None:
    """``job`` is on or off from now on, at ``shop`` or everywhere; None: as the job as a whole.

    What falls into the time while it is off does not run later.
    """
    said = f"{job.name} " + _SWITCHED[enabled]
    _change(tx, job, shop, said, {"enabled": enabled}, by=by, reason=reason, now=now, request_id=request_id)


def is_off(tx: Connection, job: Job) -> bool:
    """Tell whether ``job`` as a whole is switched off."""
    return bool(tx.exec_driver_sql(_IS_OFF, {"job": job.name}).scalar())


def _change(
    tx: Connection,
    job: Job,
    shop: Shop | None,
    said: str,
    change: dict[str, str | bool | None],
    *,
    by: str,
    reason: str,
    now: datetime,
    request_id: str,
) -> None:
    shop_id = shop.id if shop else None
    scope = {"job": job.name, "shop_id": shop_id}
    found = tx.exec_driver_sql(_FIND, scope).first()
    before = {"schedule": found[0], "enabled": found[1]} if found else {"schedule": None, "enabled": None}
    values = {
        "schedule": change.get("schedule"),
        "enabled": change.get("enabled"),
        "keeps_schedule": "schedule" not in change,
        "keeps_enabled": "enabled" not in change,
        "reason": reason,
        "by": by,
        "now": now,
    }
    schedule, enabled = tx.exec_driver_sql(_CHANGE, scope | values).one()
    where = f" at {shop.slug}" if shop else ""
    append_audit(
        tx,
        shop_id=shop_id,
        staff_label=by,
        action="job.change",
        request_id=request_id,
        now=now,
        mutations=[
            Mutation(
                "job_overrides",
                job.name,
                f"{said}{where}" + (f": {reason}" if reason else ""),
                before,
                {"schedule": schedule, "enabled": enabled},
            )
        ],
    )
