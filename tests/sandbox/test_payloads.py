"""Generated payloads have only the fields and types of the providers."""

import json
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from services.sandbox.payloads import catalogue, orders, quo, stripe
from services.sandbox.payloads.templates import big_id, decimal_text, dump, make, utc_text
from services.sandbox.payloads.templates import minor_units as minor

SAMPLES = Path(__file__).parents[3] / "shared" / "samples"
AT = datetime(2026, 11, 21, 20, 15, 30, tzinfo=UTC)
VANCOUVER = ZoneInfo("America/Los_Angeles")
needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="providers' samples are not beside this project (../shared/samples)"
)

TYPES = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: type(value) is int,
    "number": lambda value: type(value) in (int, float),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def strays(value, schema, path="$"):
    """Return where ``value`` has a field that ``schema`` lacks, or another type."""
    if not isinstance(schema, dict):
        return []
    allowed = schema.get("type")
    allowed = [allowed] if isinstance(allowed, str) else allowed
    if allowed and not any(TYPES[name](value) for name in allowed):
        # The schemas were inferred from samples that happened to have null (or nothing) here.
        return [] if "null" in allowed else [f"{path}: {value!r} should be {allowed}"]
    found = []
    if isinstance(value, dict) and "properties" in schema:
        found += [f"{path}.{name} is unknown" for name in value if name not in schema["properties"]]
        for name, child in schema["properties"].items():
            found += strays(value[name], child, f"{path}.{name}") if name in value else []
    if isinstance(value, list):
        for index, entry in enumerate(value):
            found += strays(entry, schema.get("items"), f"{path}[{index}]")
    return found


def shape(value, path=""):
    """Return every path of ``value`` down to its scalars, list entries under the list."""
    if isinstance(value, dict):
        return {f"{path}.{name}" for name in value} | {
            deeper for name, child in value.items() for deeper in shape(child, f"{path}.{name}")
        }
    return {deeper for entry in value for deeper in shape(entry, path)} if isinstance(value, list) else set()


def make_taxed(rng, items, **options):
    usual = {"placed_at": AT, "zone": VANCOUVER, "mechanic": "Ben", "discount_cents": 777}
    return orders.make_taxed_order(rng, items, **(usual | options))


def made(rng):
    items = catalogue.make_items(rng, 6)
    order = orders.make_order(rng, items, placed_at=AT, zone=VANCOUVER)
    taxed = make_taxed(rng, items)
    shop = catalogue.make_shopify_body("shop/update", shop_id=7, domain="ada.myshopify.com", at=AT)
    return {
        "orders__paid": taxed,
        "order_transactions__create": orders.make_order_transaction(
            rng, taxed, processed_at=AT, payment_ref="ch_3abc"
        ),
        "fulfillments__create": orders.make_fulfillment(rng, taxed, updated_at=AT),
        "inventory_items__update": catalogue.make_shopify_body(
            "inventory_items/update", item=items[0], at=AT, cost_cents=250
        ),
        "locations__create": catalogue.make_shopify_body("locations/update", location_id=9, at=AT),
        "shop__update": shop,
        "app__uninstalled": shop,
        **{
            topic: make("shopify", topic.replace("__", "/"), rng, at=AT, customer={"id": 5}, order_ids=[1, 2])
            for topic in ("customers__update", "customers__data_request", "customers__redact", "shop__redact")
        },
        "orders__create": order,
        "orders__updated": orders.make_order_update(order, updated_at=AT + timedelta(hours=1)),
        "orders__cancelled": orders.make_order_update(order, updated_at=AT, cancelled=True),
        "refunds__create": orders.make_refund(rng, order, refunded_at=AT),
        "inventory_levels__update": catalogue.make_shopify_body(
            "inventory_levels/update",
            inventory_item_id=items[0].inventory_item_id,
            location_id=7,
            available=-2,
            at=AT,
        ),
        "products__update": catalogue.make_product(items, updated_at=AT),
    }


@needs_samples
@pytest.mark.parametrize("topic", sorted(made(random.Random(1))))
def test_shopify_body_has_only_fields_of_the_schema_and_their_types(topic):
    schema = json.loads((SAMPLES / "shopify" / "schemas_2026-07" / f"{topic}.schema.json").read_text())

    for seed in range(20):
        assert strays(made(random.Random(seed))[topic], schema) == []


@needs_samples
@pytest.mark.parametrize("kind", ["charge", "refund", "payment_intent", "dispute", "payout"])
def test_stripe_object_has_only_fields_of_the_official_fixture(kind):
    rng = random.Random(1)
    charge = stripe.make_charge(rng, amount_cents=1, currency="USD", created_at=AT)
    made_fields = {
        "charge": charge,
        "refund": stripe.make_refund(rng, charge, amount_cents=1, created_at=AT),
        "payment_intent": stripe.make_payment_intent(charge),
        "dispute": stripe.make_dispute(rng, charge, created_at=AT),
        "payout": stripe.make_payout(rng, amount_cents=-5, currency="CAD", created_at=AT, arrives_at=AT),
    }[kind]
    official = json.loads((SAMPLES / "stripe" / "fixtures" / f"{kind}.json").read_text())
    event = json.loads((SAMPLES / "stripe" / "fixtures" / "event.json").read_text())

    assert set(made_fields) <= set(official)
    assert set(stripe.make_event(rng, "charge.succeeded", made_fields, created_at=AT)) <= set(event)


@needs_samples
@pytest.mark.parametrize(
    ("made_fields", "sample"),
    [
        (quo.make_message(random.Random(1), sent_at=AT, provider="openphone"), "legacy_v4/message.received"),
        (quo.make_call(random.Random(1), ended_at=AT, provider="openphone"), "legacy_v4/call.ringing"),
        (quo.make_message(random.Random(1), sent_at=AT), "quo_2026-03-30/message.received"),
        (quo.make_call(random.Random(1), ended_at=AT), "quo_2026-03-30/call.completed"),
    ],
)
def test_quo_body_has_only_fields_of_the_documented_one(made_fields, sample):
    official = json.loads((SAMPLES / "openphone" / f"{sample}.json").read_text())

    assert shape(made_fields) <= shape(official)


def test_one_seed_makes_one_day():
    assert dump(made(random.Random(7))) == dump(made(random.Random(7)))
    assert dump(made(random.Random(7))) != dump(made(random.Random(8)))


def test_order_is_2_to_6_kb_adds_up_and_has_ids_beyond_2_to_the_53():
    for seed in range(50):
        rng = random.Random(seed)
        items = catalogue.make_items(rng, 5)
        order = orders.make_order(rng, items, placed_at=AT)

        lines = sum(round(float(line["price"]) * 100) * line["quantity"] for line in order["line_items"])
        shipping = round(float(order["total_shipping_price_set"]["shop_money"]["amount"]) * 100)
        assert round(float(order["total_price"]) * 100) == lines + shipping
        assert 2000 <= len(dump(order)) <= 6500
        assert 2**53 < order["id"] < 2**63
        assert json.loads(dump(order))["id"] == order["id"]


@pytest.mark.parametrize(("currency", "minor_units"), [("CAD", 100), ("JPY", 1), ("KWD", 1000)])
@pytest.mark.parametrize("discount", [0, 777, 10**9])
def test_taxed_order_adds_up_line_by_line(currency, minor_units, discount):
    for seed in range(20):
        rng = random.Random(seed)
        items = catalogue.make_items(rng, 5, minor_units=minor_units)
        order = make_taxed(rng, items, currency=currency, discount_cents=discount)

        def cents(text):
            return minor(text, currency)

        full = sum(cents(line["price"]) * line["quantity"] for line in order["line_items"])
        off = sum(
            cents(one["amount"]) for line in order["line_items"] for one in line["discount_allocations"]
        )
        charged = [*order["line_items"], *order["shipping_lines"]]
        taxes = sum(cents(tax["price"]) for line in charged for tax in line["tax_lines"])
        freight = sum(cents(line["price"]) for line in order["shipping_lines"])
        assert off == cents(order["total_discounts"]) == min(discount, full)
        assert cents(order["subtotal_price"]) == full - off
        assert taxes == cents(order["total_tax"]) == sum(cents(tax["price"]) for tax in order["tax_lines"])
        assert cents(order["total_price"]) == full - off + freight + taxes
        for line in order["line_items"]:
            base = cents(line["price"]) * line["quantity"] - sum(
                cents(one["amount"]) for one in line["discount_allocations"]
            )
            for tax in line["tax_lines"]:
                assert cents(tax["price"]) == int(base * Decimal(str(tax["rate"])) + Decimal("0.5"))


def test_thin_event_has_the_fields_of_a_real_one_and_points_to_its_object():
    event = stripe.make_thin_event(
        random.Random(1), "v1.charge.succeeded", {"id": "ch_1", "object": "charge"}, created_at=AT
    )

    assert event["related_object"] == {"id": "ch_1", "type": "charge", "url": "/v1/charges/ch_1"}
    assert event["created"] == "2026-11-21T20:15:30.000Z"
    if SAMPLES.is_dir():
        assert set(event) == set(json.loads((SAMPLES / "stripe" / "thin_event_v2.json").read_text()))


def test_order_of_a_currency_without_decimals_has_none():
    rng = random.Random(1)
    items = catalogue.make_items(rng, 3, minor_units=1)

    order = orders.make_order(rng, items, placed_at=AT, currency="JPY", zone=ZoneInfo("Asia/Tokyo"))

    assert "." not in order["total_price"]
    assert order["created_at"] == "2026-11-22T05:15:30+09:00"


def test_update_keeps_the_order_and_its_offset():
    order = made(random.Random(1))["orders__create"]

    updated = orders.make_order_update(order, updated_at=AT + timedelta(hours=1), cancelled=True)

    assert order["cancelled_at"] is None
    assert updated["updated_at"] == updated["cancelled_at"] == "2026-11-21T13:15:30-08:00"


def test_refund_gives_back_one_unit_of_a_line_of_the_order():
    bodies = made(random.Random(3))
    order, refund = bodies["orders__create"], bodies["refunds__create"]

    (line,), (transaction,) = refund["refund_line_items"], refund["transactions"]
    assert refund["order_id"] == order["id"]
    assert line["line_item_id"] in {one["id"] for one in order["line_items"]}
    assert transaction["amount"] == line["line_item"]["price"]


def test_refunded_charge_knows_when_nothing_is_left():
    charge = stripe.make_charge(random.Random(1), amount_cents=10, currency="EUR", created_at=AT)

    half = stripe.make_refunded_charge(charge, 5)
    assert (half["refunded"], stripe.make_refunded_charge(half, 5)["refunded"]) == (False, True)


def test_call_summary_names_its_call():
    rng = random.Random(1)
    call = quo.make_call(rng, ended_at=AT)

    summary = make("quo", "call.summary.completed", rng, at=AT, call=call)

    assert summary["data"]["resource"]["callId"] == call["data"]["resource"]["id"]


@pytest.mark.parametrize(
    ("cents", "currency", "text"),
    [
        (1999, "USD", "19.99"),
        (5, "EUR", "0.05"),
        (1999, "JPY", "1999"),
        (1999, "KWD", "1.999"),
        (-50, "USD", "-0.50"),
    ],
)
def test_money_is_written_with_the_decimals_of_its_currency(cents, currency, text):
    assert decimal_text(cents, currency) == text


def test_moments_and_ids_are_written_as_providers_do():
    assert utc_text(AT) == "2026-11-21T20:15:30.000Z"
    assert all(2**53 < big_id(random.Random(seed)) < 2**63 for seed in range(100))


def test_a_value_that_no_template_uses_is_named() -> None:
    with pytest.raises(TypeError, match="no template of stripe uses amont"):
        make("stripe", "refund", random.Random(1), amont=5)
