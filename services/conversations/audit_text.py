"""Audit summaries of calls and messages: ids, kinds and statuses, never people or content. Pure."""

from typing import Any

from services.audit.chain import Mutation
from services.conversations.merge import Interaction
from services.conversations.payload import InteractionUpdate


def describe_update(update: InteractionUpdate, known: Interaction | None, merged: Interaction) -> Mutation:
    """Return what ``update`` changed: ``call AC1 kept: completed``, ``summary of call AC1 kept``."""
    label = f"{merged.kind} {update.provider_id}"
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for name in ("kind", "direction", "status", "occurred_at", "version_at"):
        old, new = getattr(known, name, None), getattr(merged, name)
        if old != new:
            before[name], after[name] = old, new
    status = update.status or "no status"
    if update.part:
        after[update.part] = update.version_at
        if known is not None and (at := known.detail.get(update.part, {}).get("at")):
            before[update.part] = at
        summary = f"{update.part} of {label} kept"
    elif known is None:
        summary = f"{label} kept: {status}"
    elif "status" in after:
        summary = f"{label}: {known.status or 'no status'} -> {status}"
    else:
        summary = f"{label}: received again, status unchanged"
    return Mutation("interactions", update.provider_id, summary, None if known is None else before, after)
