"""Lists of the sandbox's shop: pages behind cursors, searches, levels by place."""

import itertools
from datetime import timedelta

import pytest

from services.sandbox.payloads.catalogue import make_shopify_body
from tests.sandbox.shops import LOCATION, NOW, History, fault, open_shop, run_query

PAGE = """
query Page($first: Int, $after: String, $query: String) {
  orders(first: $first, after: $after, query: $query, sortKey: UPDATED_AT) {
    nodes { legacyResourceId updatedAt }
    pageInfo { hasNextPage endCursor }
  }
}
"""


def order(number, hours):
    plain = History(3).order
    at = (NOW - timedelta(hours=hours)).isoformat()
    return plain | {"id": number, "created_at": at, "updated_at": at}


@pytest.fixture
def shop():
    # Two in each second, added in another order.
    return open_shop(orders=[order(number, (number + 1) // 2) for number in (5, 1, 4, 2, 7, 3, 6)])


def walk(shop, first, **variables):
    after, seen = None, []
    for _ in range(20):
        page = run_query(shop, PAGE, first=first, after=after, **variables)["orders"]
        seen += [int(node["legacyResourceId"]) for node in page["nodes"]]
        if not page["pageInfo"]["hasNextPage"]:
            return seen
        after = page["pageInfo"]["endCursor"]
    raise AssertionError("pages without end")


@pytest.mark.parametrize("first", [1, 2, 3, 7, 250])
def test_pages_of_any_size_show_every_order_once_and_oldest_change_first(shop, first):
    assert walk(shop, first) == [7, 5, 6, 3, 4, 1, 2]


@pytest.mark.parametrize(("first", "has_more"), [(6, True), (7, False), (8, False)])
def test_last_page_says_that_it_is_the_last(shop, first, has_more):
    assert run_query(shop, PAGE, first=first)["orders"]["pageInfo"]["hasNextPage"] is has_more


def test_order_that_changes_between_two_pages_is_seen_again_and_none_is_missed(shop):
    page = run_query(shop, PAGE, first=3)["orders"]
    shop.control({"orders": [order(5, 0)]})

    rest = run_query(shop, PAGE, first=10, after=page["pageInfo"]["endCursor"])["orders"]

    assert [int(node["legacyResourceId"]) for node in rest["nodes"]] == [3, 4, 1, 2, 5]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", [7, 5, 6, 3, 4, 1, 2]),
        ("updated_at:>='2026-11-21T10:00:00Z'", [3, 4, 1, 2]),
        ("updated_at:>'2026-11-21T10:00:00Z'", [1, 2]),
        ("updated_at:>2026-11-21T02:00:00-08:00", [1, 2]),
        ("updated_at:<'2026-11-21T09:00:00Z'", [7]),
        ("updated_at:<=\"2026-11-21T09:00:00Z\"", [7, 5, 6]),
        ("updated_at:>='2026-11-21T09:00:00Z' AND updated_at:<'2026-11-21T11:00:00Z'", [5, 6, 3, 4]),
        ("updated_at:>='2026-11-21T09:00:00Z' updated_at:<'2026-11-21T11:00:00Z'", [5, 6, 3, 4]),
        ("updated_at:>=2026-11-21", [7, 5, 6, 3, 4, 1, 2]),
        ("updated_at:<2026-11-22", [7, 5, 6, 3, 4, 1, 2]),
    ],
)  # fmt: skip
def test_search_finds(shop, search, found):
    assert walk(shop, 4, query=search) == found


@pytest.mark.parametrize(
    "search",
    [
        "updated_at:>=yesterday",
        "id:4",
        "shoe_size:43",
        "green candle",
        "-updated_at:2026-11-21",
        "updated_at:>2026-11-21 OR updated_at:<2026-11-22",
    ],
)
def test_unknown_search_is_an_error(shop, search):
    assert "search" in fault(shop, PAGE, first=5, query=search)["message"]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ("orders", "you must provide one of first or last"),
        ("orders(first: 251)", "first=251"),
        ("orders(first: 0)", "first=0"),
        ('orders(first: 5, after: "next")', "'next' is no cursor"),
        ("orders(first: 5, sortKey: DESTINATION)", "DESTINATION"),
        ("orders(last: 5)", "last"),
    ],
)
def test_invalid_page_is_refused(shop, variables, message):
    assert message in fault(shop, f"{{ {variables} {{ nodes {{ id }} }} }}")["message"]


def level(item, hours, available=3, location=LOCATION):
    return make_shopify_body(
        "inventory_levels/update",
        inventory_item_id=item,
        location_id=location,
        available=available,
        at=NOW - timedelta(hours=hours),
    )


LEVELS = """
query Levels($query: String, $after: String) {
  locations(first: 5) {
    nodes {
      id name isActive address { provinceCode countryCode }
      inventoryLevels(first: 2, after: $after, query: $query) {
        nodes { id updatedAt item { id sku } quantities(names: ["available"]) { name quantity } }
        pageInfo { hasNextPage endCursor }
      }
    }
  }
}
"""


def test_levels_of_a_location_are_found_by_when_they_changed():
    shop = open_shop(
        inventory_levels=[level(1, 5), level(2, 1, available=-4), level(3, 3), level(2, 9, available=8)],
        locations=[
            make_shopify_body("locations/update", location_id=LOCATION, at=NOW),
            make_shopify_body("locations/update", location_id=9, at=NOW, is_active=False),
        ],
    )

    (place,) = run_query(shop, LEVELS, query="updated_at:>='2026-11-21T09:00:00Z'")["locations"]["nodes"]

    found = [
        (node["item"]["id"][-1], node["quantities"][0]["quantity"])
        for node in place["inventoryLevels"]["nodes"]
    ]
    assert found == [("2", -4), ("3", 3)]
    assert place["address"] == {"provinceCode": "BC", "countryCode": "CA"}


def test_levels_are_paged_without_loss_and_of_ids_beyond_2_to_the_53():
    items = [2**60 + number for number in range(5)]
    shop = open_shop(inventory_levels=[level(item, 1) for item in reversed(items)])

    after, seen = None, []
    for _ in itertools.count():
        page = run_query(shop, LEVELS, after=after)["locations"]["nodes"][0]["inventoryLevels"]
        seen += [int(node["item"]["id"].rpartition("/")[2]) for node in page["nodes"]]
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]

    assert seen == items


def test_level_removed_between_two_pages_hides_no_other():
    shop = open_shop(inventory_levels=[level(item, 1) for item in (4, 1, 3, 2)])
    page = run_query(shop, LEVELS)["locations"]["nodes"][0]["inventoryLevels"]
    shop.control({"webhooks": [{"topic": "inventory_levels/disconnect", "body": level(1, 0)}]})

    after = page["pageInfo"]["endCursor"]
    rest = run_query(shop, LEVELS, after=after)["locations"]["nodes"][0]["inventoryLevels"]

    assert [node["item"]["id"][-1] for node in page["nodes"] + rest["nodes"]] == ["1", "2", "3", "4"]


def test_level_is_a_node_until_its_item_leaves_the_location():
    shop = open_shop(inventory_levels=[level(1, 2)])
    gid = f"gid://shopify/InventoryLevel/{LOCATION}?inventory_item_id=1"
    query = "query N($ids: [ID!]!) { nodes(ids: $ids) { id ... on InventoryLevel { updatedAt } } }"

    assert run_query(shop, query, ids=[gid])["nodes"] == [{"id": gid, "updatedAt": "2026-11-21T10:00:00Z"}]
    shop.control({"webhooks": [{"topic": "inventory_levels/disconnect", "body": level(1, 1)}]})

    assert run_query(shop, query, ids=[gid, "gid://shopify/Order/1"])["nodes"] == [None, None]


def test_item_has_its_cost_and_its_levels_wherever_they_are():
    history = History()
    item = history.items[0]
    body = make_shopify_body("inventory_items/update", item=item, at=NOW, cost_cents=1250)
    place = item.inventory_item_id
    shop = open_shop(
        products=[history.product], inventory_items=[body],
        inventory_levels=[level(place, 1), level(place, 1, location=8)],
    )  # fmt: skip
    query = """query I($id: ID!) { nodes(ids: [$id]) { ... on InventoryItem {
      sku tracked unitCost { amount currencyCode }
      inventoryLevel(locationId: "gid://shopify/Location/8") { quantities(names: ["on_hand"]) { quantity } }
      away: inventoryLevel(locationId: "gid://shopify/Location/9") { id }
    } } }"""

    (found,) = run_query(shop, query, id=body["admin_graphql_api_id"])["nodes"]

    assert (found["sku"], found["unitCost"]) == (item.sku, {"amount": "12.5", "currencyCode": "USD"})
    assert found["inventoryLevel"]["quantities"] == [{"quantity": 3}]
    assert found["away"] is None


def test_products_are_found_with_their_variants():
    history = History()
    shop = open_shop(products=[history.product])
    query = """{ products(first: 5, query: "updated_at:>='2026-11-20T12:00:00Z'") { nodes {
      id title status updatedAt
      variants(first: 2) { nodes { sku inventoryItem { id } } pageInfo { hasNextPage } } } } }"""

    (product,) = run_query(shop, query)["products"]["nodes"]

    assert (product["status"], product["updatedAt"]) == ("ACTIVE", "2026-11-20T12:00:00Z")
    assert [node["sku"] for node in product["variants"]["nodes"]] == [item.sku for item in history.items[:2]]
    assert product["variants"]["pageInfo"] == {"hasNextPage": True}
