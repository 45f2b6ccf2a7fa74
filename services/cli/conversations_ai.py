"""What ``fleet conversations backfill --ai --vectors`` adds: the AI work that stored conversations lack."""

from collections.abc import Sequence
from datetime import datetime

import click

from services.cli.base import notify_workers
from services.conversations.ai_steps import SUMMARIES, VECTORS, list_lacking
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import InputInvalid
from services.core.settings import get_settings
from services.ledger.accept import record_work
from services.shops.shops import Shop


def check_uses(shop: Shop, uses: Sequence[str]) -> None:
    """Raise ``InputInvalid`` naming what the settings or the shop lack for ``uses``."""
    settings = get_settings()
    for use, setting in ((SUMMARIES, "ai_model"), (VECTORS, "ai_embedding_model")):
        if use not in uses:
            continue
        if not getattr(settings, setting):
            raise InputInvalid(
                f"{setting.upper()} is not set, so there are no {use}: docs/conversations.md, AI"
            )
        if use not in shop.ai_uses.split(","):
            wanted = ",".join(sorted({use, *filter(None, shop.ai_uses.split(","))}))
            raise InputInvalid(
                f"the shop {shop.slug} does not allow {use}: `fleet shops set {shop.slug} --ai-uses {wanted}`"
            )


def plan_use(shop: Shop, since: datetime, use: str, *, is_dry: bool) -> int:
    """Plan the AI work of ``use`` that the shop's conversations since ``since`` lack; return how much."""
    planned, after = 0, (since, "")
    while True:
        with transaction() as tx:
            new_work, following = list_lacking(tx, shop.id, since, use, after)
            refs = [] if is_dry else record_work(tx, new_work, utc_now())
        planned += len(new_work)
        if note := notify_workers(refs):
            click.echo(note, err=True)
        if following is None:
            return planned
        after = following
