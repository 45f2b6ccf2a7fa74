"""For every history of an order and its refunds the stored parts add up to what the customer finally paid."""

from dataclasses import dataclass, field
from itertools import count
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from services.ledger.work import WorkItem
from services.shopify.orders.handler import ingest_orders
from services.shopify.orders.refund_handler import ingest_refunds
from services.shopify.orders.transactions import ingest_order_transactions
from tests.shopify.sample_payloads import ORDER, Ingest, add_shop, at, empty, ingest, item, rows
from tests.shopify.test_any_order import EXPLORE

TABLES = (
    "orders", "order_lines", "order_refunds", "order_refund_lines", "order_transactions", "order_notices",
    "stock_movements", "work_queue",
)  # fmt: skip
TAX = "coalesce((select sum((t ->> 'cents')::int) from jsonb_array_elements({}) t), 0)"
PAID = f"""
select (select coalesce(sum(l.price_cents * l.quantity - l.discount_cents
                            + case when o.taxes_included then 0 else {TAX.format("l.taxes")} end), 0)
          from order_lines l where l.order_gid = o.order_gid and not l.is_tip)
       + o.shipping_cents + case when o.taxes_included then 0 else {TAX.format("o.shipping_taxes")} end
       + o.tip_cents + o.duties_cents + o.rounding_cents
       - (select coalesce(sum(r.shipping_cents + r.shipping_tax_cents + r.duties_cents + r.tip_cents
                              - r.adjustment_cents - r.adjustment_tax_cents + r.unexplained_cents
                              + r.rounding_cents + (
            select coalesce(sum(f.subtotal_cents + case when o.taxes_included then 0 else f.tax_cents end), 0)
              from order_refund_lines f
              left join order_lines l on l.order_gid = f.order_gid and l.line_id = f.line_id
             where f.refund_id = r.refund_id and l.is_tip is not true)), 0)
            from order_refunds r where r.order_gid = o.order_gid and r.status = 'success')
  from orders o
"""  # noqa: S608 - the texts joined in are this module's
GIVEN = "select refunded_cents from orders"


def text(cents: int) -> str:
    """Return an amount in Shopify's format."""
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100}.{abs(cents) % 100:02}"


def bag(cents: int) -> dict[str, Any]:
    """Return an amount in the shop's currency, which is the buyer's too."""
    money = {"amount": text(cents), "currency_code": "CAD"}
    return {"shop_money": money, "presentment_money": money}


def convert_to_buyer(cents: int, rate: float) -> tuple[int, int]:
    """Convert ``cents`` at ``rate`` to the buyer's currency and back; return both amounts."""
    there = round(cents * rate)
    return round(there / rate), there


def sum_parts(body: dict[str, Any], currency: str, *, taxes_included: bool) -> int:
    """Return the sum of the parts of a refund in a currency."""

    def cents(of: dict[str, Any], name: str, side: str) -> int:
        return round(float(of.get(name, bag(0))[side]["amount"]) * 100)

    side = "shop_money" if currency == "CAD" else "presentment_money"
    lines, shipping = body["refund_line_items"], body.get("refund_shipping_lines", [])
    return (
        sum(cents(one, "subtotal_set", side) for one in lines)
        + sum(0 if taxes_included else cents(one, "total_tax_set", side) for one in lines)
        + sum(cents(one, f"{name}_amount_set", side) for one in shipping for name in ("subtotal", "tax"))
        + cents(body, "total_duties_set", side)
        - sum(cents(one, "amount_set", side) for one in body.get("order_adjustments", [])
              if one["kind"] != "shipping_refund")
    )  # fmt: skip


@dataclass
class History:
    """An order with edits and refunds, and the money that really moved."""

    rate: float = 0.0
    is_stated: bool = False
    taxes_included: bool = False
    lines: list[dict[str, Any]] = field(default_factory=list)
    total: int = 0
    paid: int = 0
    given: int = 0
    parts: dict[str, int] = field(default_factory=dict)
    events: list[tuple[Ingest, WorkItem]] = field(default_factory=list)
    ids: Any = field(default_factory=lambda: count(1))

    def sell(self, price: int, pieces: int, discount: int) -> dict[str, Any]:
        """Add a line; ``worth`` is its amount with tax."""
        net = price * pieces - discount
        taxes = [("GST", 0.05, net * 5 // 100), ("PST", 7.0, net * 7 // 100)]
        tax = sum(cents for _, _, cents in taxes)
        line = {
            "id": ORDER + next(self.ids), "title": "A mug", "quantity": pieces, "price": text(price),
            "total_discount": text(discount), "product_id": 5,
            "tax_lines": [{"title": name, "rate": rate, "price": text(c)} for name, rate, c in taxes],
        }  # fmt: skip
        self.lines.append(line)
        self.total += net + (0 if self.taxes_included else tax)
        return line | {"net": net, "tax": tax, "worth": net + (0 if self.taxes_included else tax)}

    def add_order_event(self, minute: int, **fields: Any) -> None:
        """Add an event with the current state of the order."""
        parts = self.parts
        body = {
            "id": ORDER, "name": "#1", "currency": "CAD", "financial_status": "paid", "created_at": at(0),
            "updated_at": at(minute), "total_price": text(self.total), "line_items": list(self.lines),
            "taxes_included": self.taxes_included, "total_shipping_price_set": bag(parts["shipping"]),
            "shipping_lines": [{"price": text(parts["shipping"]), "tax_lines": [
                {"title": "GST", "rate": 0.05, "price": text(parts["shipping_tax"])}]}],
            "total_tip_received": text(parts["tip"]), "original_total_duties_set": bag(parts["duties"]),
            "total_cash_rounding_payment_adjustment_set": bag(parts["rounding"]),
        }  # fmt: skip
        made = item("order_ingest", body | fields, event_topic="orders/updated")
        self.events.append((ingest_orders, made))

    @property
    def is_foreign(self) -> bool:
        """Whether the buyer pays in another currency, at ``rate``."""
        return self.rate > 0

    def bag(self, cents: int) -> dict[str, Any]:
        """Return an amount in both currencies, each rounded separately."""
        if not self.is_foreign:
            return bag(cents)
        here, there = convert_to_buyer(cents, self.rate)
        return {
            "shop_money": {"amount": text(here), "currency_code": "CAD"},
            "presentment_money": {"amount": text(there), "currency_code": "USD"},
        }

    def give_back(
        self, minute: int, money: int, status: str, *, until: str = "", beyond: int = 0, **parts: Any
    ) -> None:
        """Add a refund whose payment is ``status``, and later ``until`` in a separate event.

        In a foreign currency it pays its parts and ``beyond``; Shopify converts the sum.
        """
        refund_id, payment = ORDER + 500 + next(self.ids), ORDER + 700 + next(self.ids)
        body = {
            "id": refund_id, "order_id": ORDER, "created_at": at(minute), "refund_line_items": [],
            "total_duties_set": self.bag(0), "transactions": [],
        } | parts  # fmt: skip
        moved = {
            "id": payment, "order_id": ORDER, "kind": "refund", "status": status, "amount": text(money),
            "currency": "CAD", "created_at": at(minute),
        }  # fmt: skip
        if self.is_foreign and money:
            there = sum_parts(body, "USD", taxes_included=self.taxes_included) + round(beyond * self.rate)
            money = round(there / self.rate)
            moved |= {"amount": text(there), "currency": "USD"}
            if self.is_stated:
                shop = {"amount": text(money), "currency_code": "CAD"}
                moved |= {"amount_set": {"shop_money": shop}}
            else:
                money = sum_parts(body, "CAD", taxes_included=self.taxes_included)
        if money:
            body["transactions"] = [moved]
        self.events.append((ingest_refunds, item("refund_ingest", body, event_topic="refunds/create")))
        if until and money:
            delivered = item("", moved | {"status": until}, event_topic="order_transactions/create")
            self.events.append((ingest_order_transactions, delivered))
        if (until or status) == "success":
            self.given += money

    def back(self, sold: dict[str, Any]) -> list[dict[str, Any]]:
        """Return a refund line for the whole line."""
        worth = {"subtotal_set": self.bag(sold["net"]), "total_tax_set": self.bag(sold["tax"])}
        return [
            {"id": ORDER + 900 + next(self.ids), "line_item_id": sold["id"], "quantity": sold["quantity"],
             "restock_type": "no_restock", **worth}
        ]  # fmt: skip

    def discrepancy(self, cents: int) -> list[dict[str, Any]]:
        """Return an adjustment of ``cents`` beyond the other parts."""
        return [{"kind": "refund_discrepancy", "amount": text(-cents), "amount_set": self.bag(-cents)}]


prices = st.integers(0, 90_000)
rates = st.sampled_from([0.0, 0.0, 0.7, 0.6173, 0.7391, 1.0873, 5.21])
states = st.sampled_from(
    [("success", ""), ("success", ""), ("pending", "success"), ("pending", ""), ("failure", "")]
)


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Draw a sale paid in full or with a deposit, and its refunds."""
    story = History(rate=draw(rates), is_stated=draw(st.booleans()), taxes_included=draw(st.booleans()))
    whole = [story.sell(2000 + draw(prices), draw(st.integers(1, 3)), draw(st.sampled_from([0, 1999])))
             for _ in range(draw(st.integers(1, 4)))]  # fmt: skip
    shipping, tip, duties = draw(prices), draw(prices), draw(prices)
    story.parts = {"shipping": shipping, "shipping_tax": shipping // 20, "tip": tip, "duties": duties,
                   "rounding": draw(st.sampled_from([0, 0, 2, -2]))}  # fmt: skip
    with_tax = 0 if story.taxes_included else shipping // 20
    story.total += shipping + with_tax + tip + duties
    story.paid = story.total + story.parts["rounding"]
    story.add_order_event(0)
    first = whole[0]
    kind = draw(
        st.sampled_from(
            ["goods", "each", "gesture", "shipping", "tip", "exchange", "deposit", "edit", "none"]
        )
    )
    status, until = draw(states)
    given = {"status": status, "until": until}
    if kind == "goods":
        more = draw(st.sampled_from([0, 300, -300]))
        story.give_back(1, first["worth"] + more, refund_line_items=story.back(first),
                        order_adjustments=story.discrepancy(more) if more else [], **given)  # fmt: skip
    elif kind == "each":
        for minute, sold in enumerate(whole, start=1):
            story.give_back(minute, sold["worth"], "success", refund_line_items=story.back(sold))
    elif kind == "gesture":
        story.give_back(1, 700, order_adjustments=story.discrepancy(700), **given)
    elif kind == "shipping" and shipping:
        net = shipping - (shipping // 20 if story.taxes_included else 0)
        line = {"subtotal_amount_set": story.bag(net), "tax_amount_set": story.bag(shipping // 20)}
        twice = {"kind": "shipping_refund", "amount": text(-net), "tax_amount": text(-(shipping // 20))}
        story.give_back(1, shipping + with_tax + duties, refund_shipping_lines=[line],
                        order_adjustments=[twice], total_duties_set=story.bag(duties), **given)  # fmt: skip
    elif kind == "tip" and story.is_stated:
        story.give_back(1, first["worth"] + tip, refund_line_items=story.back(first), beyond=tip, **given)
    elif kind == "exchange" and not story.is_foreign:
        credit = story.sell(max(100, first["worth"] // 2), 1, 0)["worth"]
        story.add_order_event(2)
        if credit <= first["worth"]:
            story.give_back(3, first["worth"] - credit, "success", refund_line_items=story.back(first))
        else:
            story.paid += credit - first["worth"]
            story.give_back(3, 0, "success", refund_line_items=story.back(first))
    elif kind == "deposit" and not story.is_foreign:
        story.paid, story.parts["rounding"] = 1000, 0
        story.add_order_event(1, financial_status="refunded", cancelled_at=at(1))
        line = {"subtotal_amount_set": bag(shipping - (shipping // 20 if story.taxes_included else 0)),
                "tax_amount_set": bag(shipping // 20)}  # fmt: skip
        story.give_back(2, 1000, "success", refund_shipping_lines=[line], total_duties_set=bag(duties + tip),
                        refund_line_items=[one for sold in whole for one in story.back(sold)])  # fmt: skip
    elif kind == "edit" and not story.is_foreign:
        story.give_back(1, 0, "success", refund_line_items=story.back(first))
        story.give_back(2, first["worth"], "success")
    return story


def test_parts_add_up_to_what_the_customer_finally_paid(engine: Engine) -> None:
    add_shop(engine)

    @settings(max_examples=EXPLORE or 100, deadline=None, derandomize=not EXPLORE, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(histories(), st.randoms(use_true_random=False))
    def check(story: History, random: Any) -> None:
        empty(engine, *TABLES)
        random.shuffle(story.events)
        for effect, event in [*story.events, *story.events[: random.randrange(3)]]:
            ingest(engine, effect, event)

        assert rows(engine, PAID) == [(story.paid - story.given,)]
        assert rows(engine, GIVEN) == [(story.given,)]

    check()
