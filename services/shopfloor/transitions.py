"""Starts, finishes and undoes stages. The functions of the database check the person and write the tables."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Unpack
from uuid import UUID

from sqlalchemy import Connection

from services.audit.append import Author, Mutation, append_change
from services.core.errors import InputInvalid, ShopfleetError
from services.core.times import format_time
from services.shopfloor.usage import record_use
from services.shops.shops import Shop

ACTIONS = ("scan", "start", "finish", "undo", "assign", "release")
OK = "OK"

_MOVE = """
select answer, is_new from floor_transition(
  %(token)s, %(shop_id)s, %(order_gid)s, %(scan_id)s, %(action)s, %(stage)s, %(assignee_id)s)
"""
_SET = "select floor_set_stages(%(token)s, %(shop_id)s, %(stages)s::text[])"
_PAST = {"start": "started", "finish": "finished", "undo": "undone", "release": "released after cancellation"}

REFUSALS: Mapping[str, str] = {
    "INVALID_STAGE": "{order} is at {stage}: {wanted} is not possible now; allowed: {allowed}",
    "STAGE_TAKEN": "{order}: {holder} works on {stage} since {held_since}",
    "ORDER_CANCELLED": "{order} is cancelled: stop the work on it",
    "UNKNOWN_ORDER": "{order} is not an order of this shop",
    "UNKNOWN_PERSON": "{order} can be assigned only to a person who works at this shop",
    "SCAN_ID_TAKEN": "the id of this scan belongs to another scan: scan again",
    "NOT_SIGNED_IN": "sign in again: this session or API token is unknown, or has ended",
    "NOT_ALLOWED": "{by} may not {action} at this shop",
    "INVALID_STAGES": "a shop has 2 to 12 stages with different names of 1 to 40 characters",
    "STAGE_IN_USE": "open orders are at {stages}: finish them, or keep these stages",
}
"""The text of each code of an answer that is no success."""


class StageRefused(ShopfleetError):
    """A scan or a change of stages was refused; ``code`` says why, such as ``INVALID_STAGE``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ScanRequest(NamedTuple):
    """One action on one order. ``stage`` is the stage that the person sees; empty: the present one."""

    shop: Shop
    order_gid: str
    scan_id: UUID
    action: str = "scan"
    stage: str = ""
    assignee_id: int | None = None


class ScanResult(NamedTuple):
    """The answer to a scan. ``is_new`` is false if the same scan was answered before."""

    answer: Mapping[str, Any]
    is_new: bool

    @property
    def code(self) -> str:
        return str(self.answer["code"])


def record_scan(tx: Connection, token: str, scan: ScanRequest, **author: Unpack[Author]) -> ScanResult:
    """Do ``scan`` as the person whose session or API token ``token`` is; append what changed to the audit.

    A scan that is refused is an answer too, with its code: see ``describe_answer``.
    """
    values = {
        "token": token,
        "shop_id": scan.shop.id,
        "order_gid": scan.order_gid,
        "scan_id": scan.scan_id,
        "action": scan.action,
        "stage": scan.stage,
        "assignee_id": scan.assignee_id,
    }
    result = ScanResult(*tx.exec_driver_sql(_MOVE, values).one())
    if result.is_new and result.code == OK:
        mutation = _describe_move(result.answer)
        append_change(tx, f"floor.{result.answer['action']}", {scan.shop.id: [mutation]}, **author)
        action = str(result.answer["action"])
        event = {"start": "scan", "finish": "scan"}.get(action, action)
        record_use(tx, event, scan.shop.id, str(scan.scan_id), {"stage": result.answer["stage"]}, **author)
    return result


def set_stages(
    tx: Connection, token: str, shop: Shop, stages: Sequence[str], **author: Unpack[Author]
) -> list[str]:
    """Replace the stages of ``shop`` as an admin of it; return those before. Raises ``StageRefused``.

    The last stage is reached, not worked on. A stage with open orders cannot be removed.
    """
    values = {"token": token, "shop_id": shop.id, "stages": list(stages)}
    answer: dict[str, Any] = tx.exec_driver_sql(_SET, values).scalar_one()
    if answer["code"] != OK:
        raise StageRefused(answer["code"], describe_answer(answer))
    before: list[str] = answer["before"]
    if before != list(stages):
        summary = f"stages of the shop floor: {', '.join(before)} -> {', '.join(stages)}"
        mutation = Mutation("stage_sets", str(shop.id), summary, {"stages": before}, {"stages": [*stages]})
        append_change(tx, "floor.stages", {shop.id: [mutation]}, **author)
    return before


def describe_answer(answer: Mapping[str, Any]) -> str:
    """Return an answer as a sentence: what was done, or why not and what is allowed now."""
    order = f"order {answer.get('name') or answer.get('order', '')}"
    if answer["code"] == OK:
        return _describe_done(answer, order)
    values = {
        **answer,
        "order": order,
        "allowed": " or ".join(answer.get("allowed", ())) or "nothing more",
        "stages": ", ".join(answer.get("stages", ())),
    }
    if since := answer.get("held_since"):
        values["held_since"] = format_time(datetime.fromisoformat(since))
    return REFUSALS[answer["code"]].format_map(values)


def raise_refused(result: ScanResult) -> None:
    """Raise ``StageRefused`` if ``result`` is no success, ``InputInvalid`` for an unknown order or person."""
    if result.code in ("UNKNOWN_ORDER", "UNKNOWN_PERSON"):
        raise InputInvalid(describe_answer(result.answer))
    if result.code != OK:
        raise StageRefused(result.code, f"{result.code}: {describe_answer(result.answer)}")


def _describe_done(answer: Mapping[str, Any], order: str) -> str:
    if answer["action"] == "assign":
        return f"{order} is assigned to {answer['assignee'] or 'nobody'}"
    after = answer["stage_after"]
    now = f", now at {after}" if after != answer["stage"] else ""
    return f"{order}: {answer['stage']} {_PAST[answer['action']]} by {answer['by']}{now}"


def _describe_move(answer: Mapping[str, Any]) -> Mutation:
    after = {name: answer[name] for name in ("by", "assignee", "at") if name in answer}
    after["stage"] = answer["stage_after"]
    before = {"stage": answer["stage"]}
    return Mutation("floor_orders", answer["order"], describe_answer(answer), before, after)
