"""The API of a sandbox shop returns the orders of its webhooks, with all their parts."""

import random
from decimal import Decimal

import pytest

from tests.sandbox.shops import LOCATION, NOW, History, fault, open_shop, run_query

MONEY = "shopMoney { amount currencyCode }"
ORDER = f"""
query Read($id: ID!) {{
  order(id: $id) {{
    id legacyResourceId name createdAt updatedAt cancelledAt displayFinancialStatus displayFulfillmentStatus
    currencyCode taxesIncluded
    totalPriceSet {{ {MONEY} }} subtotalPriceSet {{ {MONEY} }} totalTaxSet {{ {MONEY} }}
    totalShippingPriceSet {{ {MONEY} }} totalDiscountsSet {{ {MONEY} }}
    customer {{ id legacyResourceId firstName updatedAt defaultEmailAddress {{ emailAddress }} }}
    shippingAddress {{ provinceCode countryCodeV2 }}
    lineItems(first: 10) {{
      nodes {{
        id sku title quantity taxable isGiftCard customAttributes {{ key value }} product {{ id title }}
        originalUnitPriceSet {{ {MONEY} }} discountAllocations {{ allocatedAmountSet {{ {MONEY} }} }}
        taxLines {{ title rate priceSet {{ {MONEY} }} }}
      }}
    }}
    shippingLines(first: 3) {{ nodes {{ title taxLines {{ title rate priceSet {{ {MONEY} }} }} }} }}
    refunds(first: 5) {{
      id createdAt totalRefundedSet {{ {MONEY} }}
      refundLineItems(first: 5) {{
        nodes {{ id quantity restockType location {{ id }} lineItem {{ id sku }} subtotalSet {{ {MONEY} }} }}
      }}
      transactions(first: 5) {{ nodes {{ id kind amountSet {{ {MONEY} }} }} }}
    }}
    transactions(first: 10) {{
      id kind status gateway receiptJson paymentId processedAt amountSet {{ {MONEY} }}
      parentTransaction {{ id }}
    }}
    fulfillments(first: 5) {{ id status displayStatus totalQuantity location {{ id }} }}
  }}
}}
"""


@pytest.fixture
def history():
    return History()


def read(shop, history):
    return run_query(shop, ORDER, id=history.order["admin_graphql_api_id"])["order"]


def amount(money_set):
    return Decimal(money_set["shopMoney"]["amount"])


def test_order_equals_its_webhooks(history):
    shop = open_shop()
    history.feed(shop)
    body = history.changed

    order = read(shop, history)

    assert (order["legacyResourceId"], order["name"]) == (str(body["id"]), body["name"])
    assert (order["updatedAt"], order["cancelledAt"]) == ("2026-11-21T10:00:00Z", None)
    assert (order["displayFinancialStatus"], order["displayFulfillmentStatus"]) == (
        "PARTIALLY_REFUNDED",
        "FULFILLED",
    )
    for field, name in (("totalPriceSet", "total_price"), ("subtotalPriceSet", "subtotal_price"),
                        ("totalTaxSet", "total_tax"), ("totalDiscountsSet", "total_discounts")):  # fmt: skip
        assert amount(order[field]) == Decimal(body[name])
    assert order["totalPriceSet"]["shopMoney"]["currencyCode"] == "CAD"
    assert order["shippingAddress"] == {"provinceCode": "BC", "countryCodeV2": "CA"}
    assert order["customer"]["defaultEmailAddress"]["emailAddress"] == body["customer"]["email"]


def test_lines_have_their_taxes_discounts_properties_and_products(history):
    shop = open_shop()
    history.feed(shop)

    lines = read(shop, history)["lineItems"]["nodes"]

    assert [line["sku"] for line in lines] == [line["sku"] for line in history.order["line_items"]]
    assert {tuple(line["customAttributes"][0].values()) for line in lines} == {("mechanic", "Ben")}
    assert (
        sum(amount(one["allocatedAmountSet"]) for line in lines for one in line["discountAllocations"]) == 5
    )
    for line, given in zip(lines, history.order["line_items"], strict=True):
        taxes = [(tax["title"], tax["rate"], amount(tax["priceSet"])) for tax in line["taxLines"]]
        assert taxes == [(tax["title"], tax["rate"], Decimal(tax["price"])) for tax in given["tax_lines"]]
    assert lines[0]["product"]["id"].endswith(str(history.order["line_items"][0]["product_id"]))


def test_refund_transactions_and_parcels_hang_on_their_order(history):
    shop = open_shop()
    history.feed(shop)
    given_back = history.refund["transactions"][0]

    order = read(shop, history)

    (refund,) = order["refunds"]
    (line,) = refund["refundLineItems"]["nodes"]
    assert (line["quantity"], line["restockType"]) == (1, "RETURN")
    assert line["location"] == {"id": f"gid://shopify/Location/{LOCATION}"}
    assert line["lineItem"]["id"] == history.order["line_items"][0]["admin_graphql_api_id"]
    assert amount(refund["totalRefundedSet"]) == Decimal(given_back["amount"])
    sale, back = order["transactions"]
    assert (sale["kind"], sale["status"], sale["receiptJson"]) == (
        "SALE",
        "SUCCESS",
        {"charge_id": "ch_3abc"},
    )
    assert (back["kind"], back["parentTransaction"]["id"].rpartition("/")[2]) == (
        "REFUND",
        str(given_back["parent_id"]),
    )
    assert refund["transactions"]["nodes"][0]["id"] == back["id"]
    (parcel,) = order["fulfillments"]
    pieces = sum(line["quantity"] for line in history.order["line_items"])
    assert (parcel["status"], parcel["displayStatus"], parcel["totalQuantity"]) == (
        "SUCCESS",
        "FULFILLED",
        pieces,
    )


@pytest.mark.parametrize("seed", range(5))
def test_order_and_repetition_of_webhooks_change_nothing(history, seed):
    straight, shuffled = open_shop(), open_shop()
    history.feed(straight)
    news = history.webhooks * 2
    random.Random(seed).shuffle(news)
    history.feed(shuffled, news)

    assert read(shuffled, history) == read(straight, history)


def test_parts_inside_an_order_are_parts_of_it(history):
    shop, whole = open_shop(), open_shop()
    history.feed(whole)
    inside = history.changed | {"refunds": [history.refund], "fulfillments": [history.sent]}

    shop.control({"products": [history.product], "orders": [inside], "order_transactions": [history.paid]})

    assert read(shop, history) == read(whole, history)


def test_refund_makes_its_order_newer_for_a_search_though_not_in_itself(history):
    shop = open_shop()
    history.feed(shop, [("orders/create", history.order), ("refunds/create", history.refund)])
    search = "{ orders(first: 5, query: \"updated_at:>='2026-11-21T09:00:00Z'\") { nodes { updatedAt } } }"

    assert run_query(shop, search)["orders"]["nodes"] == [{"updatedAt": "2026-11-21T07:00:00Z"}]


@pytest.mark.parametrize(
    ("given", "shown"),
    [(None, "UNFULFILLED"), ("partial", "PARTIALLY_FULFILLED"), ("fulfilled", "FULFILLED")],
)
def test_fulfilment_status_has_its_own_words_in_graphql(history, given, shown):
    shop = open_shop(orders=[history.order | {"fulfillment_status": given}])

    assert read(shop, history)["displayFulfillmentStatus"] == shown


def test_deleted_order_is_gone(history):
    shop = open_shop()
    history.feed(shop, [*history.webhooks, ("orders/delete", {"id": history.order["id"]})])

    assert read(shop, history) is None


def test_money_has_no_needless_zeros_and_always_a_decimal_place():
    yen = History(2)
    yen.order |= {"currency": "JPY", "total_price": "1999", "total_price_set": None, "total_tax": "0.00"}
    shop = open_shop(orders=[yen.order])

    order = run_query(shop, ORDER, id=yen.order["admin_graphql_api_id"])["order"]

    assert order["totalPriceSet"]["shopMoney"] == {"amount": "1999.0", "currencyCode": "JPY"}


def test_invalid_body_is_refused_by_name():
    with pytest.raises(ValueError, match="orders needs webhook bodies: KeyError 'updated_at' in 5"):
        open_shop(orders=[{"id": 5}])


def test_id_of_another_kind_is_an_error(history):
    shop = open_shop()
    assert "Invalid global id" in fault(shop, ORDER, id="gid://shopify/Product/1")["message"]
    assert run_query(shop, '{ nodes(ids: "gid://shopify/Order/1") { id } }') == {"nodes": [None]}


def test_shop_equals_its_last_update():
    from services.sandbox.payloads.catalogue import make_shopify_body

    given = make_shopify_body(
        "shop/update",
        shop_id=7,
        domain="ada.myshopify.com",
        at=NOW,
        name="Ada's",
        currency="JPY",
        iana_timezone="Asia/Tokyo",
    )
    shop = open_shop(webhooks=[{"topic": "shop/update", "body": given}])

    assert run_query(shop, "{ shop { id name currencyCode ianaTimezone } }")["shop"] == {
        "id": "gid://shopify/Shop/7",
        "name": "Ada's",
        "currencyCode": "JPY",
        "ianaTimezone": "Asia/Tokyo",
    }
