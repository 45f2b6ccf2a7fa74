"""A signed body under another topic changes nothing: Shopify does not sign the topic header."""

from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from sqlalchemy import Connection, Engine, text

from services.cli.samples import SAMPLES, make_sample
from services.core.db import transaction
from services.core.errors import Refused
from services.ledger.topics import HandlerMode, plan_topic
from services.ledger.work import Done, Outcome, WorkItem
from services.schema.models import metadata
from services.shopify.payload import BODIES, WrongBody, check_body, find_body
from services.shopify.subscriptions.plan import WANTED
from services.shops.secrets import record_secret
from tests.shopify.sample_payloads import NOON, NOW, SHOP, add_shop, item

PRIVACY = ("customers/data_request", "customers/redact", "shop/redact")
HEADERS = sorted({*WANTED, *PRIVACY, *SAMPLES["shopify"], "fulfillment_events/delete"})
"""Every topic that can be in a header and plans work."""

WITHOUT_EFFECT = frozenset({"ignored", "unknown_id", "skipped_followup", "not_tracked"})

SAME_BODY = ({"app/uninstalled", "shop/update"},)
"""Topics with different effects and the same body. A call to Shopify decides there."""


def family(topic: str) -> object:
    """Return the family of a topic: topics of one family have the same body and effect."""
    for same in SAME_BODY:
        if topic in same:
            return tuple(sorted(same))
    room = topic.partition("/")[0]
    if room in ("fulfillment_orders", "returns"):
        return room
    return find_body(topic) or topic


@pytest.fixture(scope="session")
def genuine(environment: dict[str, str]) -> dict[str, bytes]:
    """Return a body of every topic with a sample, and deletions of their objects."""
    made = {
        topic: make_sample("shopify", topic, "CAD", Random(1), NOON) or b"{}" for topic in SAMPLES["shopify"]
    }
    deleted = {
        "orders/delete": made["orders/create"],
        "products/delete": made["products/update"],
        "locations/delete": made["locations/update"],
        "customers/delete": made["customers/update"],
        "inventory_items/delete": made["inventory_items/update"],
    }
    for topic, body in deleted.items():
        made[topic] = orjson.dumps({"id": orjson.loads(body)["id"]})
    level = orjson.loads(made["inventory_levels/update"])
    made["inventory_levels/disconnect"] = orjson.dumps(
        {name: level[name] for name in ("inventory_item_id", "location_id")}
    )
    return made


@pytest.fixture
def shop(engine: Engine, genuine: dict[str, bytes]) -> Engine:
    """A shop with every object of the genuine bodies."""
    add_shop(engine, domain="sample.myshopify.com")
    with transaction(engine) as tx:
        record_secret(tx, SHOP, "shopify-token", "shpat_" + "0" * 32, NOON)
    for topic, body in genuine.items():
        if not topic.endswith(("/delete", "/disconnect", "redact", "uninstalled", "data_request")):
            with transaction(engine) as tx:
                run(tx, topic, [item("genuine", body, event_topic=topic)])
    return engine


def run(tx: Connection, topic: str, items: list[WorkItem]) -> list[Outcome | Any]:
    """Return the outcomes of ``items`` with the effect of the header ``topic``; makes no call."""
    from tasks.handlers import HANDLERS

    planned = plan_topic("shopify", topic)
    if planned is None:
        return []
    effect = HANDLERS[planned.name]
    if planned.mode is HandlerMode.TRANSACTIONAL:
        assert callable(effect)
        return list(effect(tx, items, NOW).outcomes)
    assert not callable(effect)
    return list(effect.prepare(tx, items, NOW))


_CONTENTS = " union all ".join(
    f"select '{name}', json_agg(row_to_json(t) order by t::text)::text from {name} t"  # noqa: S608 - names of our tables
    for name in sorted(metadata.tables)
    if name not in ("incidents", "privacy_requests")
)


def contents(tx: Connection) -> dict[str, str | None]:
    """Return all rows of all tables as JSON; null for none."""
    return dict(tx.execute(text(_CONTENTS)).all())  # type: ignore[arg-type]


def test_no_body_of_another_topic_has_an_effect(shop: Engine, genuine: dict[str, bytes]) -> None:
    check_effects(shop, genuine)


def test_no_sample_of_shopifys_has_an_effect_under_another_topic(shop: Engine, samples: Path) -> None:
    folder = samples / "shopify" / "payloads_2026-07_exact_ids"
    check_effects(shop, {path.stem.replace("__", "/"): path.read_bytes() for path in folder.glob("*.json")})


def check_effects(shop: Engine, bodies: Mapping[str, bytes]) -> None:
    """Check that no body has an effect under the header of a topic of another family."""
    with transaction(shop) as tx:
        before = contents(tx)
    for topic in HEADERS:
        others = [name for name in bodies if family(name) != family(topic)]
        with transaction(shop) as tx:
            outcomes = run(tx, topic, [item(topic, bodies[name], event_topic=topic) for name in others])
            done = [
                f"the body of {name} under {topic}: {outcome}"
                for name, outcome in zip(others, outcomes, strict=bool(outcomes))
                if not isinstance(outcome, Refused)
                and not (isinstance(outcome, Done) and outcome.result in WITHOUT_EFFECT)
            ]
            assert done == []
            assert contents(tx) == before, topic
            tx.rollback()


def test_samples_of_shopifys_are_the_bodies_of_their_own_topics(samples: Path) -> None:
    for path in (samples / "shopify" / "payloads_2026-07_exact_ids").glob("*.json"):
        check_body(path.stem.replace("__", "/"), orjson.loads(path.read_bytes()))


def test_every_deletion_states_the_exact_keys_of_its_body() -> None:
    destructive = [t for t in HEADERS if t.endswith(("/delete", "/redact", "/disconnect", "/data_request"))]

    loose = {t for t in destructive if not (body := find_body(t)) or not body.only}

    # The body of a deleted fulfilment event is that of a created one: the topic has no effect at all.
    assert loose == {"fulfillment_events/delete"}


def test_every_planned_topic_of_shopifys_says_what_its_body_looks_like() -> None:
    planned = [t for t in HEADERS if plan_topic("shopify", t) and not t.startswith("fulfillment_orders/")]

    assert [t for t in planned if find_body(t) is None] == []
    assert len(BODIES) == len({pattern for pattern, _ in BODIES})


@pytest.mark.parametrize(
    ("topic", "body", "fault"),
    [
        ("orders/delete", {"id": 1, "email": None}, "id only"),
        ("orders/delete", {}, "which has id"),
        ("shop/redact", {"shop_id": 1, "shop_domain": "a.myshopify.com", "customer": {}}, "only"),
        ("customers/redact", {"shop_id": 1, "shop_domain": "a", "customer": {}}, "orders_to_redact"),
        ("inventory_transfers/cancel",
         {"id": "gid://shopify/InventoryShipment/1", "happened_at": "", "origin": {}, "destination": {}},
         "gid://shopify/InventoryTransfer/"),
    ],
)  # fmt: skip
def test_wrong_body_is_refused_by_the_names_of_its_keys(topic: str, body: dict[str, Any], fault: str) -> None:
    with pytest.raises(WrongBody, match=fault) as caught:
        check_body(topic, body)

    assert caught.value.code == "shopify.wrong_body"
