"""``fleet conversations search``: finds calls, messages and mails of a shop by meaning or by words."""

from collections.abc import Sequence

import click

from services.cli.base import ReportingCommand, json_option
from services.cli.output import print_json, print_table, to_document
from services.cli.params import SHOP
from services.conversations.ai_steps import VECTORS, find_ai_pause
from services.conversations.vectors import NEWEST, FoundInteraction, search_meaning, search_words
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import WorkError, describe_server
from services.core.settings import get_settings
from services.core.times import format_time
from services.costs.month import AI
from services.costs.store import Cost, record_cost
from services.providers.ai import PROVIDER, embed, find_ai
from services.shops.shops import Shop, get_shop

_EXCERPT = 160


@click.command("search", cls=ReportingCommand)
@click.argument("text")
@click.option("--shop", type=SHOP, required=True, metavar="SHOP", help="The shop.")
@click.option("--results", type=click.IntRange(1, 200), default=10, show_default=True, help="Most results.")
@click.option("--words", is_flag=True, help="Search for the words, also where there are vectors.")
@json_option
def search(text: str, shop: str, results: int, words: bool, as_json: bool) -> None:
    """Find calls, messages and mails of a shop.

    By meaning if the shop has vectors (docs/conversations.md): the text is sent to the AI, and its cost is
    recorded. Otherwise by words, which must all occur, among the newest 20,000 of the shop.

    \b
    Examples:
      fleet conversations search "wants to move the delivery to Friday" --shop harbour
      fleet conversations search "refund tote" --shop harbour --words --json
    """
    with transaction() as tx:
        stored = get_shop(tx, shop)
        why = "--words" if words else _why_words(stored) or find_ai_pause(tx, stored.id)
    found = _search_words(stored, text, results) if why else _search_meaning(stored, text, results)
    how = f"by words, because of {why}" if why else f"by meaning, {get_settings().ai_embedding_model}"
    if as_json:
        documents = [to_document(one) for one in found]
        print_json({"shop": shop, "by": "words" if why else "meaning", "interactions": documents})
        return
    rows = [
        (
            format_time(one.occurred_at, stored.zone),
            one.kind,
            one.provider_id,
            ", ".join(one.addresses),
            one.page_id,
            "" if one.score is None else f"{one.score:.2f}",
            one.text[:_EXCERPT],
        )
        for one in found
    ]
    empty = f"Nothing found {how}; a search by words reads the newest {NEWEST:,} of the shop."
    print_table(f"Found {how}", ("at", "kind", "id", "with", "page", "score", "text"), rows, empty)


def _why_words(shop: Shop) -> str:
    """Return why the shop has no search by meaning; empty if it has one."""
    if not get_settings().ai_embedding_model:
        return "AI_EMBEDDING_MODEL, which is not set"
    return "" if VECTORS in shop.ai_uses.split(",") else f"--ai-uses of {shop.slug}, which has no 'vectors'"


def _search_words(shop: Shop, text: str, limit: int) -> Sequence[FoundInteraction]:
    with transaction() as tx:
        return search_words(tx, [shop.id], text, limit)


def _search_meaning(shop: Shop, text: str, limit: int) -> Sequence[FoundInteraction]:
    ai, now = find_ai(get_settings()), utc_now()
    assert ai is not None  # noqa: S101 - a model is set
    try:
        (vector,), cost = embed(ai, [text])
    except WorkError as fault:
        server = describe_server(ai.url)
        raise WorkError(
            fault.code, f"{fault}: AI_API_BASE is {server}; `--words` searches without it"
        ) from fault
    with transaction() as tx:
        record_cost(tx, Cost(shop.id, AI, PROVIDER, f"search {now.isoformat()}", *cost), now=now)
        return search_meaning(tx, [shop.id], ai.embedding_model, vector, limit)
