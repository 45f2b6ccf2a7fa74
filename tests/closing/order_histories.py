"""Random orders and refunds as Shopify payloads, each with the amount finally paid."""

from dataclasses import dataclass, field
from random import Random
from typing import Any

DAY = "2026-10-{:02}T12:00:00-07:00"


@dataclass(slots=True)
class History:
    """Events of one order. ``paid``: money in minus money out; ``apart``: its part that is no sale.

    ``rate``: a dollar of the shop in the buyer's currency, 0 if both use one currency.
    ``duties`` and ``fees``: the amounts not refunded.
    """

    number: int
    rate: float = 0.0
    events: list[dict[str, Any]] = field(default_factory=list)
    paid: int = 0
    apart: int = 0
    counts: bool = True
    duties_included: bool = False
    duties: int = 0
    fees: int = 0

    @property
    def goods_and_shipping(self) -> int:
        """Amount finally paid for goods and shipping, without tax, tips, duties and gift cards."""
        return self.paid - self.apart if self.counts else 0


@dataclass(slots=True)
class _Line:
    """A line of an order; amounts are of all its pieces, ``net`` after the discount and without tax."""

    id: int
    kind: str
    pieces: int
    net: int
    discount: int
    gst: int
    pst: int
    removed: int = 0

    @property
    def tax(self) -> int:
        return self.gst + self.pst

    def of_pieces(self, pieces: int) -> tuple[int, int]:
        """Return net and tax of ``pieces``."""
        return self.net // self.pieces * pieces, self.tax // self.pieces * pieces


def text(cents: int) -> str:
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100}.{abs(cents) % 100:02}"


def money(cents: int, history: History) -> dict[str, Any]:
    """Return an amount in the shop's currency and in the buyer's."""
    local = {"amount": text(cents), "currency_code": "CAD"}
    foreign = {"amount": text(round(cents * history.rate)), "currency_code": "USD"}
    return {"shop_money": local, "presentment_money": foreign if history.rate else local}


def convert(cents: int, history: History) -> int:
    """Return a refund amount in the shop's currency, converted from the buyer's as Shopify does."""
    return round(round(cents * history.rate) / history.rate) if history.rate else cents


def draw_history(rng: Random, number: int) -> History:
    """Return an order with up to three refunds, drawn from ``rng``."""
    history = History(number, rate=rng.choice((0, 0, 0.7, 0.6173, 1.0873)))
    included, unpaid = rng.random() < 0.3, rng.random() < 0.1
    status = rng.choice(("voided", "expired")) if rng.random() < 0.15 else "pending" if unpaid else "paid"
    is_test = rng.random() < 0.1
    history.counts = not is_test and status in ("paid", "pending")
    lines = [_draw_line(rng, number * 100 + place) for place in range(1, rng.randint(2, 5))]
    shipping = _Line(0, "shipping", 1, rng.choice((0, 800, 1234)), 0, 40, 56)
    if not shipping.net:
        shipping.gst = shipping.pst = 0
    duties, fees, rounding = rng.choice((0, 0, 700)), rng.choice((0, 0, 450)), 0
    history.duties, history.fees = duties - (rng.choice((0, 200)) if duties else 0), fees
    history.duties_included = rng.random() < 0.4
    tips = sum(line.net for line in lines if line.kind == "tip")
    sold = [line.of_pieces(line.pieces - line.removed) for line in lines]
    total = sum(net + tax for net, tax in sold) + shipping.net + shipping.tax + fees
    total += 0 if history.duties_included else history.duties
    if history.rate and history.duties == duties and not any(line.removed for line in lines):
        total += rng.choice((-2, 0, 1))  # Shopify converts the total separately
    history.paid += total
    history.apart += sum(tax for _, tax in sold) + shipping.tax + history.duties + fees
    history.apart += sum(sold[i][0] for i, line in enumerate(lines) if line.kind != "goods")
    body = {
        "id": number, "name": f"#{number}", "currency": "CAD",
        "presentment_currency": "USD" if history.rate else "CAD", "financial_status": status, "test": is_test,
        "created_at": DAY.format(5), "processed_at": DAY.format(6), "updated_at": DAY.format(6),
        "cancelled_at": None, "taxes_included": included, "total_price": text(total + rounding),
        "total_price_set": money(total, history), "total_tip_received": text(tips),
        "total_discounts": text(sum(line.discount for line in lines)), "total_tax": text(0),
        "duties_included": history.duties_included, "original_total_duties_set": money(duties, history),
        "current_total_duties_set": money(history.duties, history),
        "original_total_additional_fees_set": money(fees, history) if fees else None,
        "current_total_additional_fees_set": money(fees, history) if fees else None,
        "total_shipping_price_set": money(shipping.net + (shipping.tax if included else 0), history),
        "shipping_lines": [
            {"id": number, "price": text(shipping.net), "tax_lines": _taxes(shipping, history, rng)}
        ],
        "line_items": [_line_body(line, history, rng, included=included) for line in lines],
        "shipping_address": {"country_code": "CA", "province_code": "BC"},
    }  # fmt: skip
    history.events.append({"topic": "orders/create", "body": body})
    for place in range(rng.choice((0, 0, 1, 2))):
        _add_refund(rng, history, lines, shipping, place, included=included)
        shipping = _Line(0, "shipping", 1, 0, 0, 0, 0)
    left = {line.id: line.pieces - line.removed for line in lines}
    later = body | {
        "updated_at": DAY.format(22),
        "current_total_duties_set": money(history.duties, history),
        "current_total_additional_fees_set": money(history.fees, history) if fees else None,
        "line_items": [one | {"current_quantity": left[one["id"]]} for one in body["line_items"]],
    }
    history.events.append({"topic": "orders/updated", "body": later})
    return history


def _draw_line(rng: Random, line_id: int) -> _Line:
    kind = rng.choices(("goods", "gift card", "tip"), (8, 1, 1))[0]
    pieces = rng.randint(1, 3) if kind == "goods" else 1
    each, taxed = rng.randint(100, 9999), kind == "goods"
    gst, pst = (each * 5 // 100, each * 7 // 100) if taxed else (0, 0)
    discount = rng.choice((0, rng.randint(1, 500))) * pieces if taxed else 0
    removed = rng.randint(0, pieces - 1) if rng.random() < 0.2 else 0
    return _Line(line_id, kind, pieces, each * pieces, discount, gst * pieces, pst * pieces, removed)


def _taxes(line: _Line, history: History, rng: Random) -> list[dict[str, Any]]:
    is_liable = rng.random() < 0.1
    return [
        {"title": title, "rate": rate, "price": text(cents), "price_set": money(cents, history),
         "channel_liable": is_liable}
        for title, rate, cents in (("GST", 0.05, line.gst), ("Provincial", 0.07, line.pst))
        if cents
    ]  # fmt: skip


def _line_body(line: _Line, history: History, rng: Random, *, included: bool) -> dict[str, Any]:
    price = (line.net + line.discount + (line.tax if included else 0)) // line.pieces
    tip = {"tip_payment_gateway": "shopify_payments"} if line.kind == "tip" else {}
    return {
        "id": line.id, "sku": line.kind[:4].upper(), "title": line.kind, "quantity": line.pieces,
        "current_quantity": line.pieces - line.removed, "price": text(price),
        "price_set": money(price, history),
        "gift_card": line.kind == "gift card", "taxable": line.kind == "goods",
        "tax_lines": _taxes(line, history, rng),
        "discount_allocations": [
            {"amount": text(line.discount), "amount_set": money(line.discount, history)}
        ],
        **tip,
    }  # fmt: skip


def _add_refund(
    rng: Random, history: History, lines: list[_Line], shipping: _Line, place: int, *, included: bool
) -> None:
    """Add a refund of some pieces, sometimes with shipping, a goodwill amount or a fee."""
    refund_id = history.number * 10 + place
    status = rng.choices(("success", "pending", "failure"), (8, 1, 1))[0]
    given, back, apart = [], _RefundSum(history), 0
    for line in rng.sample(lines, rng.randint(0, len(lines))):
        left = line.pieces - line.removed
        if not left:
            continue
        pieces = rng.randint(1, left)
        net, tax = line.of_pieces(pieces)
        line.removed += pieces  # no later refund contains these
        subtotal, tax_set = back.add(net + (tax if included else 0)), back.add(tax, counts=not included)
        apart += convert(tax, history) + (convert(net, history) if line.kind != "goods" else 0)
        given.append(
            {"id": refund_id * 10 + len(given), "line_item_id": line.id, "quantity": pieces,
             "restock_type": "no_restock", "subtotal_set": subtotal, "total_tax_set": tax_set}
        )  # fmt: skip
    adjustments, shipped = [], []
    if shipping.net and rng.random() < 0.4:
        net_set, tax_set = back.add(shipping.net), back.add(shipping.tax)
        apart += convert(shipping.tax, history)
        stated = {"amount_set": _RefundSum(history).add(-shipping.net),
                  "tax_amount_set": _RefundSum(history).add(-shipping.tax)}  # fmt: skip
        adjustments.append({"id": refund_id, "kind": "shipping_refund", **stated})
        if rng.random() < 0.5:  # the same amount in two fields
            shipped.append({"id": refund_id, "subtotal_amount_set": net_set, "tax_amount_set": tax_set})
    if beyond := rng.choice((0, 0, 500, -min(300, back.shop))):
        back.add(beyond)
        adjustments.append({"id": refund_id + 1, "kind": "refund_discrepancy",
                            "amount_set": _RefundSum(history).add(-beyond),
                            "tax_amount_set": money(0, history)})  # fmt: skip
    duties = history.duties if place == 0 and rng.random() < 0.4 else 0
    if not history.duties_included:
        back.shop, back.there = back.shop + duties, back.there + round(duties * history.rate)
    apart += duties
    is_stated = rng.random() < 0.5
    fees = history.fees if place == 0 and rng.random() < 0.4 and (is_stated or not history.rate) else 0
    back.add(fees)  # Shopify's refund has no field for it
    apart += fees
    payment, worth = back.pay(refund_id, status, is_stated=is_stated)
    body = {
        "id": refund_id, "order_id": history.number, "created_at": DAY.format(20), "refund_line_items": given,
        "processed_at": DAY.format(21), "order_adjustments": adjustments, "refund_shipping_lines": shipped,
        "total_duties_set": money(duties, history), "duties": [], "transactions": [payment] if worth else [],
    }  # fmt: skip
    history.events.append({"topic": "refunds/create", "body": body})
    history.duties, history.fees = history.duties - duties, history.fees - fees
    if status == "success" or not worth:
        history.paid -= worth
        history.apart -= apart


@dataclass(slots=True)
class _RefundSum:
    """Sum of the parts of a refund: ``shop`` in the shop's currency, ``there`` in the buyer's."""

    history: History
    shop: int = 0
    there: int = 0

    def add(self, cents: int, *, counts: bool = True) -> dict[str, Any]:
        """Add a part and return it as money; ``counts=False`` for a part within another part."""
        if counts:
            self.shop += convert(cents, self.history)
            self.there += round(cents * self.history.rate)
        return money(convert(cents, self.history), self.history)

    def pay(self, number: int, status: str, *, is_stated: bool) -> tuple[dict[str, Any], int]:
        """Return the payment of all parts and its value; Shopify converts the sum itself."""
        payment = {"id": number, "kind": "refund", "status": status, "amount": text(self.shop),
                   "currency": "CAD"}  # fmt: skip
        if not self.history.rate:
            return payment, self.shop
        payment |= {"amount": text(self.there), "currency": "USD"}
        if not is_stated:
            return payment, self.shop
        worth = round(self.there / self.history.rate)
        stated = {"shop_money": {"amount": text(worth), "currency_code": "CAD"}}
        return payment | {"amount_set": stated}, worth
