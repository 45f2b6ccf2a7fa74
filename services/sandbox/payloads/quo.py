"""Bodies of Quo (OpenPhone) webhooks, in the old and the new format. Pure."""

import random
from datetime import datetime, timedelta

from services.sandbox.payloads.templates import Body, make

_TEXTS = (
    "Hi, is the amber candle back in stock?",
    "Danke, das Paket ist da 🎉",
    "Could I change my address?",
    "Where is my order?",
)


def make_message(rng: random.Random, *, sent_at: datetime, provider: str = "quo") -> Body:
    """Return ``message.received``; ``provider`` is ``openphone`` for the old format."""
    return make(provider, "message.received", rng, at=sent_at, text=rng.choice(_TEXTS))


def make_call(rng: random.Random, *, ended_at: datetime, provider: str = "quo") -> Body:
    """Return ``call.completed``; ``provider`` is ``openphone`` for the old format."""
    seconds = rng.randint(5, 600)
    answered_at = ended_at - timedelta(seconds=seconds)
    return make(
        provider, "call.completed", rng, at=ended_at, answered_at=answered_at, seconds=seconds,
        created_at=answered_at - timedelta(seconds=6), direction=rng.choice(("incoming", "outgoing")),
    )  # fmt: skip
