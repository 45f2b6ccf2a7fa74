"""The bulk action that runs a job at all shops: its rows are shops."""

from collections.abc import Iterable
from datetime import datetime
from typing import Unpack
from uuid import uuid4

from sqlalchemy import Connection

from services.audit.append import Author
from services.bulk.kinds import JOBS, KINDS, NO_RUN, STARTED, RowFacts
from services.bulk.store import BulkPlan, plan_bulk_action, start_bulk_action
from services.jobs.definition import Job
from services.jobs.runs import list_run_states
from services.ledger.accept import WorkRef
from services.shops.shops import Shop


def describe_places(job: Job, states: Iterable[tuple[Shop, str]]) -> list[RowFacts]:
    """Return each shop as a row of a bulk action. Pure."""
    return [RowFacts(shop.id, shop.id, job.name, status or NO_RUN) for shop, status in states]


def plan_run_everywhere(tx: Connection, job: Job, period: str, now: datetime, *, again: bool) -> BulkPlan:
    """Return at which shops a run of ``job`` starts; raise ``PeriodInvalid``. ``again``: a done one too."""
    rows = describe_places(job, list_run_states(tx, job, period, now))
    return plan_bulk_action(KINDS["run"], rows, _choose_statuses(again=again), None, now)


def start_run_everywhere(
    tx: Connection,
    job: Job,
    period: str,
    plan: BulkPlan,
    user_id: int,
    *,
    again: bool,
    **author: Unpack[Author],
) -> tuple[int, tuple[WorkRef, ...]]:
    """Record the action; return its id and its first work. Raises ``InputInvalid`` if no run would start."""
    query = {"job": job.name, "period": period, "status": ",".join(_choose_statuses(again=again))}
    key = f"{JOBS} {uuid4().hex}"
    number, refs = start_bulk_action(tx, plan, query, user_id=user_id, request_key=key, **author)
    return number, tuple(refs)


def _choose_statuses(*, again: bool) -> tuple[str, ...]:
    return (*STARTED, "done") if again else STARTED
