"""Workflows: chains of topics. The row of each step, when it is done, plans the row of the next one.

``settle`` inserts the next row in the transaction that settles the step, so a crash between two steps cannot
lose a run, and a retry, a requeue or a pause applies to the step alone. A run is the work of one event.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, select

from services.core.errors import Refused
from services.ledger.tables import work_queue
from services.ledger.work import NewWork, WorkItem

_log = logging.getLogger(__name__)
_LOGGED = {"error": "retry", "pending": "retry"}

SKIPPED = "skipped"
"""``work_queue.result`` of a step that had nothing to do."""


class Workflow(NamedTuple):
    """A name for logs, the topics of its steps in order, and a pattern of the events that begin it."""

    name: str
    steps: tuple[str, ...]
    event_topics: str = "*"


def make_workflows(*workflows: Workflow) -> Mapping[str, Workflow]:
    return MappingProxyType({workflow.name: workflow for workflow in workflows})


_TO_NOTION = ("notion_find", "interaction_fetch", "interaction_enrich", "notion_write", "interaction_note")

WORKFLOWS: Mapping[str, Workflow] = make_workflows(
    Workflow("call", ("interaction_ingest", *_TO_NOTION), "call*"),
    Workflow("message", ("interaction_ingest", *_TO_NOTION), "message*"),
    Workflow("mail", ("mail_ingest", *_TO_NOTION)),
)
"""All workflows by name."""
FIRST_STEPS = frozenset(workflow.steps[0] for workflow in WORKFLOWS.values())


class StepLine(NamedTuple):
    """A step of a run. ``started_at`` is the end of the step before, ``error`` that of the last try."""

    work_id: int
    step: str
    status: str
    started_at: datetime
    ended_at: datetime | None
    error: str


class StepEnd(NamedTuple):
    """A try of a step that ended. ``status`` is done, skipped, retry or dead."""

    item: WorkItem
    workflow: str
    status: str
    error_code: str
    seconds: float


def plan_second_step(workflow: Workflow, item: WorkItem, key: str, subject: str) -> NewWork:
    """Return the step after the first, which is ``item``: a handler that knows the workflow plans it.

    All further steps have this ``key``, which only one of them per topic runs with at a time, and in their
    payload the ``subject``: the id of what the run is about. Other data is read from tables.
    """
    return _plan_step(workflow, item, workflow.steps[1], key, subject)


def plan_next_steps(items: Iterable[WorkItem]) -> list[NewWork]:
    """Return the next step of each of ``items``, which are done; nothing for last steps and other work.

    Raises ``Refused`` for a step that its workflow no longer has.
    """
    planned = []
    for item in items:
        if not (name := item.payload.get("workflow")):
            continue
        workflow = WORKFLOWS.get(name)
        if workflow is None or item.topic not in workflow.steps:
            detail = (
                f"{item.topic} is no step of workflow {name}: replay the event with `fleet events replay`"
            )
            raise Refused("workflow.step_unknown", detail)
        following = workflow.steps[workflow.steps.index(item.topic) + 1 :]
        if following:
            subject = item.payload.get("subject", "")
            planned.append(_plan_step(workflow, item, following[0], item.key, subject))
    return planned


def list_step_ends(
    settled: Sequence[tuple[WorkItem, str, str, str]], new_work: Iterable[NewWork], seconds: float
) -> list[StepEnd]:
    """Return those of ``settled`` (item, status, result, error code) that are steps; ``new_work`` follows.

    A first step that is done and after which no step is planned began no run.
    """
    begun = {work.event_id for work in new_work if "workflow" in work.payload}
    ends = []
    for item, status, result, error_code in settled:
        name = item.payload.get("workflow") or _find_begun(item, is_done=status == "done", begun=begun)
        if name:
            shown = SKIPPED if result == SKIPPED else _LOGGED.get(status, status)
            ends.append(StepEnd(item, name, shown, error_code, seconds))
    return ends


def _find_begun(item: WorkItem, *, is_done: bool, begun: Collection[int | None]) -> str:
    """Return the name of the workflow whose first step ``item`` is, or an empty text."""
    if is_done and item.event_id not in begun:
        return ""
    found = (
        one.name
        for one in WORKFLOWS.values()
        if one.steps[0] == item.topic and fnmatchcase(item.event_topic, one.event_topics)
    )
    return next(found, "")


def log_steps(ends: Iterable[StepEnd]) -> None:
    """Write ``event=workflow.step`` for each try of a step, after the commit; a dead step is a warning."""
    for end in ends:
        fields = {
            "workflow": end.workflow,
            "step": end.item.topic,
            "status": end.status,
            "seconds": round(end.seconds, 3),
            "work_id": end.item.id,
            "event_id": end.item.event_id,
            "request_id": end.item.request_id,
            "error_code": end.error_code,
        }
        level = logging.WARNING if end.status == "dead" else logging.INFO
        _log.log(level, "workflow.step", extra={"fields": fields})


def _plan_step(workflow: Workflow, item: WorkItem, topic: str, key: str, subject: str) -> NewWork:
    return NewWork(
        shop_id=item.shop_id,
        topic=topic,
        key=key,
        payload={"workflow": workflow.name, "subject": subject},
        event_id=item.event_id,
        origin=item.origin,
        request_id=item.request_id,
    )


def list_steps(tx: Connection, row: Row[Any]) -> Sequence[StepLine]:
    """Return the planned steps of the run that work ``row`` is a step of, in order; empty for other work.

    The rows of a run have one event. A run that no event began is ``row`` alone.
    """
    column = work_queue.c
    is_of_run = column.id == row.id if row.event_id is None else column.event_id == row.event_id
    rows = tx.execute(select(work_queue).where(is_of_run).order_by(column.id)).all()
    names = [found.payload["workflow"] for found in rows if "workflow" in found.payload]
    if not names or names[0] not in WORKFLOWS:
        return []
    of_run = [found for found in rows if found.topic in WORKFLOWS[names[0]].steps]
    return [_to_line(found) for found in of_run] if any(found.id == row.id for found in of_run) else []


def _to_line(row: Row[Any]) -> StepLine:
    is_failed = row.status in ("error", "dead") and row.error_code
    return StepLine(
        row.id,
        row.topic,
        SKIPPED if row.result == SKIPPED else row.status,
        row.created_at,
        row.finished_at,
        f"{row.error_code}: {row.last_error}" if is_failed else "",
    )
