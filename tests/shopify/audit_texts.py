"""The audit summaries of effects."""

from typing import Any

from services.ledger.work import HandlerResult
from tests.shopify.sample_payloads import (
    LOCATION,
    ORDER,
)

NAME = f"order #{ORDER % 1000}"
GID = f"gid://shopify/Order/{ORDER}"
MUGS = f"stock of MUG at location {LOCATION}"


def summaries(effects: HandlerResult) -> list[tuple[str, ...]]:
    """Return the summaries of each entry, in order."""
    return [tuple(m.summary for m in entry.mutations) for entry in effects.audit]


def changes(effects: HandlerResult) -> tuple[Any, Any]:
    """Return before and after of the only mutation."""
    ((mutation,),) = (entry.mutations for entry in effects.audit)
    return mutation.before, mutation.after
