"""What the audit says of calls and messages: ids, kinds and statuses, never who or what was said. Pure."""

from typing import Any

from services.audit.chain import Mutation
from services.conversations.merge import Interaction
from services.conversations.payload import Told


def say_told(told: Told, known: Interaction | None, merged: Interaction) -> Mutation:
    """Return what ``told`` changed of its row: ``call AC1 kept: completed``, ``summary of call AC1 kept``."""
    label = f"{merged.kind} {told.provider_id}"
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for name in ("kind", "direction", "status", "occurred_at", "version_at"):
        old, new = getattr(known, name, None), getattr(merged, name)
        if old != new:
            before[name], after[name] = old, new
    if told.part:
        after[told.part] = told.version_at
        if known is not None and (at := known.detail.get(told.part, {}).get("at")):
            before[told.part] = at
        summary = f"{told.part} of {label} kept"
    elif known is None:
        summary = f"{label} kept: {told.status or 'no status'}"
    elif "status" in after:
        summary = f"{label}: {known.status or 'no status'} -> {told.status or 'no status'}"
    else:
        summary = f"{label}: told anew, its status unchanged"
    return Mutation("interactions", told.provider_id, summary, None if known is None else before, after)
