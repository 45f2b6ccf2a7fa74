"""Topics ``interaction_enrich``, ``interaction_summarize`` and ``interaction_embed``: what AI adds.

The step of the workflow only plans the calls to the AI. They are work of their own, so neither an AI that
does not answer nor a reached cap delays a page: the summary is written to it later.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection

from services.conversations.blocks import AI_SUMMARY
from services.conversations.merchants import make_key
from services.conversations.parts import plan_parts
from services.conversations.tables import interactions
from services.conversations.vectors import find_digests, read_text, store_vector
from services.core.clock import utc_now
from services.core.errors import WorkError
from services.core.locks import lock_objects
from services.core.pg_arrays import find_by_key, upsert_rows
from services.core.settings import get_settings
from services.costs.month import AI
from services.costs.store import Cost, record_cost
from services.ledger.pause import list_pauses
from services.ledger.steps import SKIPPED
from services.ledger.work import Call, Done, FollowUp, HandlerResult, NewWork, Outcome, PreparedCall, WorkItem
from services.providers.ai import PROVIDER, Ai, AiCost, embed, find_ai, summarize
from services.shops.shops import get_shop_by_id

SUMMARIES, VECTORS = "summaries", "vectors"
TOPICS = {SUMMARIES: "interaction_summarize", VECTORS: "interaction_embed"}
_SETTINGS = {SUMMARIES: "AI_MODEL", VECTORS: "AI_EMBEDDING_MODEL"}
SHORTEST_TRANSCRIPT = 200
"""Characters; a shorter call is read as fast as a summary of it."""
_HEARD = ("transcript", "voicemail")
WINDOW_ROWS = 500
_FIND_WINDOW = """
select * from interactions
 where shop_id = %(shop_id)s and occurred_at >= %(since)s and (occurred_at, provider_id) > (%(at)s, %(id)s)
 order by occurred_at, provider_id limit %(limit)s
"""
_READ = (*_HEARD, "summary", AI_SUMMARY)

Key = tuple[int, str]
Row = Mapping[str, Any]


def plan_ai_work(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Plan for each item the summary and the vector that it lacks; ``skipped`` if it lacks none."""
    del now
    rows, uses = _read_rows(tx, items), _read_uses(tx, items)
    planned: dict[tuple[Key, str], NewWork] = {}
    outcomes: list[Outcome] = []
    for item in items:
        key = _key_of(item)
        found = {
            (key, use): _plan(item, use)
            for use, find_text in _TEXTS.items()
            if use in uses[item.shop_id]
            and (key, use) not in planned
            and key in rows
            and find_text(rows[key])
        }
        planned |= found
        outcomes.append(Done() if found else Done(SKIPPED))
    return HandlerResult(outcomes, list(planned.values()))


def list_lacking(
    tx: Connection, shop_id: int, since: datetime, use: str, after: tuple[datetime, str]
) -> tuple[list[NewWork], tuple[datetime, str] | None]:
    """Return the AI work that the next interactions since ``since`` lack, and where to go on; None: the end.

    ``after`` is the time and the id of the last one that was read.
    """
    values = {"shop_id": shop_id, "since": since, "at": after[0], "id": after[1], "limit": WINDOW_ROWS}
    rows = [{**row._mapping} for row in tx.exec_driver_sql(_FIND_WINDOW, values)]
    model = get_settings().ai_embedding_model
    stored = find_digests(tx, {(shop_id, row["provider_id"]) for row in rows}) if use == VECTORS else {}
    new_work = []
    for row in rows:
        text = _TEXTS[use](row)
        if text and stored.get((shop_id, row["provider_id"])) != f"{model}:{_hash(text)}":
            key = make_key(row["merchant_id"]) if row["merchant_id"] else row["provider_id"]
            payload = {"subject": row["provider_id"]}
            new_work.append(NewWork(shop_id=shop_id, topic=TOPICS[use], key=key, payload=payload))
    last = rows[-1] if len(rows) == WINDOW_ROWS else None
    return new_work, (last["occurred_at"], last["provider_id"]) if last else None


class SummarizeHandler:
    def prepare(self, tx: Connection, items: Sequence[WorkItem], now: datetime) -> Sequence[Call | Outcome]:
        """Return, per item, the call that summarizes it; ``skipped`` if its text has a summary."""
        del now
        rows = _read_rows(tx, items)

        def plan(item: WorkItem, ai: Ai) -> Call | Outcome:
            row = rows.get(_key_of(item))
            text = find_text_to_summarize(row) if row else ""
            if not text:
                return Done(SKIPPED)
            return PreparedCall(item=item, act=partial(_summarize, item, ai, text))

        return _plan_calls(tx, items, SUMMARIES, plan)


class EmbedHandler:
    def prepare(self, tx: Connection, items: Sequence[WorkItem], now: datetime) -> Sequence[Call | Outcome]:
        """Return, per item, the call that makes its vector; ``skipped`` if it has the one of its text."""
        del now
        rows = _read_rows(tx, items)
        stored = find_digests(tx, rows)

        def plan(item: WorkItem, ai: Ai) -> Call | Outcome:
            key = _key_of(item)
            text = find_text_to_embed(rows[key]) if key in rows else ""
            if not text or stored.get(key) == f"{ai.embedding_model}:{_hash(text)}":
                return Done(SKIPPED)
            return PreparedCall(item=item, act=partial(_embed, item, ai, text))

        return _plan_calls(tx, items, VECTORS, plan)


def find_text_to_summarize(row: Row) -> str:
    """Return what was heard in a call; empty if it is short, or has a summary by Quo or of this text."""
    detail = row["detail"]
    if row["kind"] != "call" or read_text({**row, "body": ""}, ("summary",)):
        return ""
    text = read_text({**row, "body": ""}, _HEARD)
    is_known = detail.get(AI_SUMMARY, {}).get("source") == _hash(text)
    return "" if is_known or len(text) < SHORTEST_TRANSCRIPT else text


def find_text_to_embed(row: Row) -> str:
    """Return the whole text of a call, message or mail; empty without one."""
    return read_text(row, _READ)


_TEXTS = {SUMMARIES: find_text_to_summarize, VECTORS: find_text_to_embed}


def find_ai_pause(tx: Connection, shop_id: int) -> str:
    """Return the reason of the pause that holds the AI work of a shop, such as its cap; empty without one."""
    return next(
        (
            f"a pause of AI work: {one.reason}"
            for one in list_pauses(tx)
            if one.scope.cost == AI and one.scope.shop_id in (None, shop_id)
        ),
        "",
    )


def _plan_calls(tx: Connection, items: Sequence[WorkItem], use: str, plan: Any) -> list[Call | Outcome]:
    """Return ``plan`` of each item, or why there is no call: AI is off, or its settings are wrong."""
    uses = _read_uses(tx, items)
    try:
        ai = find_ai(get_settings())
    except WorkError as fault:
        return [fault] * len(items)
    model = ai and (ai.model if use == SUMMARIES else ai.embedding_model)
    if not model:
        return [Done(f"{SKIPPED}: {_SETTINGS[use]} is not set")] * len(items)
    refused = Done(f"{SKIPPED}: the shop does not allow {use}")
    return [plan(item, ai) if use in uses[item.shop_id] else refused for item in items]


def _read_uses(tx: Connection, items: Sequence[WorkItem]) -> dict[int, set[str]]:
    """Return by shop what AI may be used for and the settings have a model for."""
    settings = get_settings()
    models = {SUMMARIES: settings.ai_model, VECTORS: settings.ai_embedding_model}
    on = {use for use, model in models.items() if model}
    shop_ids = {item.shop_id for item in items}
    if not on:
        return {shop_id: set() for shop_id in shop_ids}
    return {shop_id: on & {*get_shop_by_id(tx, shop_id).ai_uses.split(",")} for shop_id in shop_ids}


def _read_rows(tx: Connection, items: Sequence[WorkItem]) -> dict[Key, dict[str, Any]]:
    found = find_by_key(tx, interactions, {_key_of(item) for item in items})
    return {(shop_id, provider_id): row for (shop_id, provider_id), row in found.items()}


def _key_of(item: WorkItem) -> Key:
    return item.shop_id, str(item.payload.get("subject", ""))


def _plan(item: WorkItem, use: str) -> NewWork:
    payload = {"subject": item.payload["subject"]}
    return NewWork(
        shop_id=item.shop_id, topic=TOPICS[use], key=item.key, payload=payload, request_id=item.request_id
    )


def _summarize(item: WorkItem, ai: Ai, text: str) -> Outcome:
    summary, cost = summarize(ai, text)
    part = {"object": {"summary": [summary]}, "source": _hash(text), "model": ai.model}
    return Done("summarized", partial(_record_summary, item, part, cost))


def _record_summary(item: WorkItem, part: dict[str, Any], cost: AiCost, tx: Connection) -> FollowUp:
    """Store the summary and its cost; plan its block, and the vector of the new text."""
    now, key = utc_now(), _key_of(item)
    _record_cost(tx, item, cost, now)
    lock_objects(tx, {key})
    row = find_by_key(tx, interactions, {key}).get(key)
    if row is None or _hash(find_text_to_summarize(row)) != part["source"]:
        return FollowUp()  # the text changed, or was redacted
    changed = row | {"detail": row["detail"] | {AI_SUMMARY: part | {"at": now.isoformat()}}}
    upsert_rows(tx, interactions, {name: [value] for name, value in changed.items()})
    plan_parts(tx, [changed], now)
    new_work = [_plan(item, VECTORS)] if VECTORS in _read_uses(tx, [item])[item.shop_id] else []
    if row["merchant_id"] is not None:
        payload = {"workflow": row["kind"], "subject": row["provider_id"]}
        key_of_page = make_key(row["merchant_id"])
        new_work.append(
            NewWork(
                shop_id=item.shop_id,
                topic="notion_write",
                key=key_of_page,
                payload=payload,
                request_id=item.request_id,
            )
        )
    return FollowUp(new_work)


def _embed(item: WorkItem, ai: Ai, text: str) -> Outcome:
    vectors, cost = embed(ai, [text])

    def record(tx: Connection) -> FollowUp:
        now = utc_now()
        _record_cost(tx, item, cost, now)
        key = _key_of(item)
        lock_objects(tx, {key})
        row = find_by_key(tx, interactions, {key}).get(key)
        if row and find_text_to_embed(row) == text:  # else it changed, or was redacted
            store_vector(tx, key, ai.embedding_model, _hash(text), vectors[0], now)
        return FollowUp()

    return Done("embedded", record)


def _record_cost(tx: Connection, item: WorkItem, cost: AiCost, now: datetime) -> None:
    reference = f"work {item.id} try {item.retry_count}"
    record_cost(tx, Cost(item.shop_id, AI, PROVIDER, reference, *cost), now=now)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
