"""Unsigned senders that announce large bodies and send little cause no refusal of genuine deliveries."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.shops.secrets import record_secret
from services.shops.shops import add_shop
from tests.ingress.unsigned_senders import genuine, post_raw, serving, unsigned_senders
from tests.lock_order import UNWATCHED

SHOPS, STRANGERS, ROUNDS = 200, 100, 3
SECRET = "hush"
BODY = b'{"id":1,"note":"' + b"y" * 60_000 + b'"}'

DIRECT: dict[str, str] = {}
THROUGH_A_PROXY = {"X-Forwarded-For": "203.0.113.5"}


@pytest.fixture
def slugs(engine: Engine) -> list[str]:
    """Shops with a secret and a domain each."""
    names = [f"shop-{n}" for n in range(SHOPS)]
    with transaction(engine) as tx:
        tx.execution_options(**UNWATCHED)
        for slug in names:
            shop = add_shop(
                tx, slug=slug, name=slug, timezone="America/Vancouver", currency="CAD",
                shopify_domain=f"{slug}.myshopify.com", now=utc_now(),
            )  # fmt: skip
            record_secret(tx, shop.id, "shopify-webhook", SECRET, utc_now())
    return names


@pytest.mark.parametrize(
    ("headers", "trusted"),
    [(DIRECT, ""), (THROUGH_A_PROXY, "127.0.0.1"), (THROUGH_A_PROXY, "")],
    ids=["direct", "through a trusted proxy", "through a proxy that is not trusted"],
)
def test_slow_unsigned_senders_cause_no_refusal_of_a_genuine_delivery(
    environment: dict[str, str],
    engine: Engine,
    slugs: list[str],
    tmp_path: Path,
    headers: Mapping[str, str],
    trusted: str,
) -> None:
    async def attack(port: int) -> Counter[int]:
        answers: Counter[int] = Counter()
        async with unsigned_senders(STRANGERS, port, slugs[0], headers):
            for number in range(ROUNDS):
                sent = (
                    post_raw(port, genuine(slug, f"w-{number}", BODY, SECRET.encode(), headers))
                    for slug in slugs
                )
                answers.update(await asyncio.gather(*sent))
        return answers

    env = {"TRUSTED_PROXIES": trusted}
    with serving(tmp_path / "ingress.log", env) as port:
        answers = asyncio.run(attack(port))

    assert answers == {200: SHOPS * ROUNDS}
    with transaction(engine) as tx:
        assert tx.scalar(text("select count(*) from inbound_events")) == SHOPS * ROUNDS
