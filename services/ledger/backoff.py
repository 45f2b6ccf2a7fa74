"""Longer backoff of a topic: its retries wait a factor longer, for all workers, until it is 1 again."""

from typing import Unpack

from sqlalchemy import Connection, Row, delete, select
from sqlalchemy.dialects.postgresql import insert

from services.audit.append import Author, Mutation, append_change
from services.ledger.filters import FilterInvalid, check_scope
from services.ledger.tables import topic_backoffs

MAX_FACTOR = 100.0

BACKOFF_LINES = """
select 'pauses' as kind, 'backoff' as label,
       'topic ' || topic || ', retries wait ' || factor || ' times as long' as name, null::int as shop_id,
       created_at as since, null::timestamptz as until, created_by as by, reason as why
  from topic_backoffs
"""
"""Every longer backoff as a condition: see ``services.jobs.conditions``."""


def format_factor(factor: float) -> str:
    """Return how long retries wait, such as ``4 times as long``."""
    return f"{factor:g} times as long" if factor > 1 else "as long as usual"


def set_backoff(tx: Connection, topic: str, factor: float, **author: Unpack[Author]) -> float:
    """Make tries of ``topic`` that fail from now on wait ``factor`` times as long; return the factor before.

    ``settle`` applies it to what the retry policy and the provider ask for. 1 is normal. Raises
    ``FilterInvalid``.
    """
    check_scope("", topic)
    if not 1 <= factor <= MAX_FACTOR:
        raise FilterInvalid(f"factor={factor:g} should be from 1 (normal) to {MAX_FACTOR:g}")
    column = topic_backoffs.c
    found = tx.execute(select(column.factor).where(column.topic == topic).with_for_update()).scalar()
    before = 1.0 if found is None else found
    if factor == before:
        return before
    if factor == 1:
        tx.execute(delete(topic_backoffs).where(column.topic == topic))
    else:
        row = {"factor": factor, "created_at": author["now"], "created_by": author["by"]}
        row["reason"] = author.get("reason", "")
        upsert = insert(topic_backoffs).values(topic=topic, **row)
        tx.execute(upsert.on_conflict_do_update(index_elements=["topic"], set_=row))
    summary = f"retries of {topic} wait {format_factor(factor)} (before: {before:g})"
    after = {"factor": str(factor), "reason": author.get("reason", "")}
    mutation = Mutation("topic_backoffs", topic, summary, {"factor": str(before)}, after)
    append_change(tx, "topic.backoff", {None: [mutation]}, **author)
    return before


def list_backoffs(tx: Connection) -> list[Row[tuple[str, float]]]:
    """Return the topics with a factor other than 1, by name."""
    return [*tx.execute(select(topic_backoffs).order_by(topic_backoffs.c.topic))]
