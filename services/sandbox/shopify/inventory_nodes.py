"""What one shop of the sandbox sells and where it lies, as GraphQL objects that lead to one another."""

from functools import partial

from services.sandbox.shopify import records as kinds
from services.sandbox.shopify.records import Body, Records
from services.sandbox.shopify.stock import Place, Stock
from services.sandbox.shopify.values import Node, enum, gid, id_of, instant, money

LONG_AGO = "2020-01-01T00:00:00Z"
"""When an object was made whose webhook never said so."""


class Goods:
    """The shop itself, products, inventory items, locations and levels, read from records and stock."""

    def __init__(self, domain: str, records: Records, stock: Stock) -> None:
        self._domain, self._records, self._stock = domain, records, stock

    def shop(self) -> Node:
        """Return the Shop as its last ``shop/update`` told it."""
        body = self._records.shop
        email = body.get("email") or f"owner@{self._domain}"
        return {
            "__typename": "Shop",
            "id": gid("Shop", body.get("id") or 1),
            "name": body.get("name") or self._domain.partition(".")[0],
            "email": email,
            "contactEmail": body.get("customer_email") or email,
            "myshopifyDomain": body.get("myshopify_domain") or self._domain,
            "currencyCode": body.get("currency") or "USD",
            "ianaTimezone": body.get("iana_timezone") or "Etc/UTC",
            "taxesIncluded": bool(body.get("taxes_included")),
        }

    def products(self) -> list[Node]:
        """Return every Product."""
        return [node for number in self._records.bodies[kinds.PRODUCTS] if (node := self.product(number))]

    def items(self) -> list[Node]:
        """Return every InventoryItem that anything is known of."""
        return [self.item(number) for number in self._item_numbers()]

    def locations(self) -> list[Node]:
        """Return every Location that anything is known of."""
        numbers = set(self._records.bodies[kinds.LOCATIONS]) | set(self._stock.items_at)
        return [self.location(number) for number in numbers]

    def levels_of(self, item: int) -> list[Node]:
        """Return the levels of an item, wherever it is stocked."""
        places = [(item, location) for location in self._stock.locations_of.get(item, ())]
        return [node for place in places if (node := self.level(place))]

    def levels_at(self, location: int) -> list[Node]:
        """Return the levels of all that is stocked at a location."""
        places = [(item, location) for item in self._stock.items_at.get(location, ())]
        return [node for place in places if (node := self.level(place))]

    def product(self, number: int) -> Node | None:
        """Return the Product with its variants, or None."""
        body = self._records.bodies[kinds.PRODUCTS].get(number)
        return None if body is None else self._product(number, body)

    def sold(self, line: Body) -> tuple[Node | None, Node | None]:
        """Return the product and the variant of a line of an order, though nothing else be known of them."""
        number, variant = line.get("product_id"), line.get("variant_id")
        if not number or not line.get("product_exists", True):
            return None, None
        product = self.product(int(number)) or self._product(int(number), {"title": line.get("title")})
        held = [one for one in product["variants"] if one["legacyResourceId"] == str(variant)]
        bare = {"id": variant, "sku": line.get("sku"), "title": line.get("variant_title")}
        return product, (held or [self._variant(bare, product)])[0] if variant else None

    def _product(self, number: int, body: Body) -> Node:
        node: Node = {
            "__typename": "Product",
            "id": gid("Product", number),
            "legacyResourceId": str(number),
            "title": body.get("title") or "",
            "handle": body.get("handle") or "",
            "status": enum(body.get("status") or "active"),
            "vendor": body.get("vendor") or "",
            "productType": body.get("product_type") or "",
            "tags": [tag.strip() for tag in (body.get("tags") or "").split(",") if tag.strip()],
            "createdAt": instant(body.get("created_at")) or LONG_AGO,
            "updatedAt": instant(body.get("updated_at")) or LONG_AGO,
        }
        node["variants"] = [self._variant(entry, node) for entry in body.get("variants") or ()]
        return node

    def item(self, number: int) -> Node:
        """Return the InventoryItem, though nothing be known of it."""
        body = self._records.bodies[kinds.ITEMS].get(number) or {}
        product = self._records.bodies[kinds.PRODUCTS].get(self._records.variants.get(number, 0)) or {}
        variant: Body = next(
            (one for one in product.get("variants") or () if one.get("inventory_item_id") == number), {}
        )
        cost = body.get("cost")
        return {
            "__typename": "InventoryItem",
            "id": gid("InventoryItem", number),
            "legacyResourceId": str(number),
            "sku": body.get("sku") or variant.get("sku"),
            "tracked": body.get("tracked", True),
            "requiresShipping": body.get("requires_shipping", True),
            "unitCost": None if cost is None else money(cost, self.shop()["currencyCode"]),
            "createdAt": instant(body.get("created_at")) or LONG_AGO,
            "updatedAt": instant(body.get("updated_at")) or instant(variant.get("updated_at")) or LONG_AGO,
            "inventoryLevel": lambda **asked: self.level((number, id_of(asked["locationId"], "Location"))),
            "inventoryLevels": lambda **_asked: self.levels_of(number),
            "variant": lambda **_asked: self._variant(variant, self.product(product["id"]) or {}),
        }

    def location(self, number: int) -> Node:
        """Return the Location, though nothing be known of it."""
        body = self._records.bodies[kinds.LOCATIONS].get(number) or {}
        is_active, updated_at = body.get("active", True), instant(body.get("updated_at")) or LONG_AGO
        address = {
            name: body.get(name) for name in ("address1", "address2", "city", "zip", "phone", "province")
        }
        return {
            "__typename": "Location",
            "id": gid("Location", number),
            "legacyResourceId": str(number),
            "name": body.get("name") or f"Location {number}",
            "isActive": is_active,
            "createdAt": instant(body.get("created_at")) or LONG_AGO,
            "updatedAt": updated_at,
            "deactivatedAt": None if is_active else updated_at,
            "address": address
            | {
                "provinceCode": body.get("province_code"),
                "country": body.get("country_name") or body.get("country"),
                "countryCode": body.get("country_code"),
            },
            "inventoryLevel": lambda **asked: self.level(
                (id_of(asked["inventoryItemId"], "InventoryItem"), number)
            ),
            "inventoryLevels": lambda **_asked: self.levels_at(number),
        }

    def level(self, place: Place) -> Node | None:
        """Return the InventoryLevel, or None where the item is not stocked there."""
        if place not in self._stock.levels:
            return None
        (item, location), at = place, self._stock.changed_at[place]
        name = f"{location}?inventory_item_id={item}"
        return {
            "__typename": "InventoryLevel",
            "id": gid("InventoryLevel", name),
            "isActive": True,
            "createdAt": LONG_AGO,
            "updatedAt": at,
            "item": lambda **_asked: self.item(item),
            "location": lambda **_asked: self.location(location),
            "quantities": partial(
                _quantities, name, self._stock.levels[place], self._stock.on_hand(place), at
            ),
        }

    def changes(self, group: Node) -> list[Node]:
        """Return what an InventoryAdjustmentGroup changed."""
        return [
            {
                "name": "available",
                "delta": quantity - held,
                "quantityAfterChange": quantity,
                "item": self.item(item),
                "location": self.location(location),
            }
            for (item, location), (held, quantity) in group["_changes"].items()
        ]

    def knows_item(self, number: int) -> bool:
        """Tell whether an inventory item is known and was not deleted."""
        bodies, stock = self._records.bodies[kinds.ITEMS], self._stock
        known = number in bodies or number in self._records.variants or number in stock.locations_of
        return known and number not in stock.deleted_items

    def knows_location(self, number: int) -> bool:
        """Tell whether a location is known."""
        return number in self._records.bodies[kinds.LOCATIONS] or number in self._stock.items_at

    def _item_numbers(self) -> set[int]:
        known = set(self._records.bodies[kinds.ITEMS]) | set(self._records.variants)
        return (known | set(self._stock.locations_of)) - self._stock.deleted_items

    def _variant(self, body: Body, product: Node) -> Node:
        item = body.get("inventory_item_id")
        return {
            "__typename": "ProductVariant",
            "id": gid("ProductVariant", body["id"]),
            "legacyResourceId": str(body["id"]),
            "title": body.get("title") or "",
            "sku": body.get("sku"),
            "barcode": body.get("barcode"),
            "price": body.get("price") or "0.00",
            "position": body.get("position") or 1,
            "taxable": body.get("taxable", True),
            "inventoryQuantity": body.get("inventory_quantity"),
            "createdAt": instant(body.get("created_at")) or LONG_AGO,
            "updatedAt": instant(body.get("updated_at")) or product["updatedAt"],
            "inventoryItem": lambda **_asked: self.item(int(item)) if item else None,
            "product": product,
        }


def _quantities(level: str, available: int, on_hand: int, at: str, *, names: list[str]) -> list[Node]:
    # Nothing is reserved, damaged or on its way in the sandbox: what is on hand is available or committed.
    held = {"available": available, "on_hand": on_hand, "committed": on_hand - available}
    return [
        {
            "__typename": "InventoryQuantity",
            "id": f"gid://shopify/InventoryQuantity/{level}&name={name}",
            "name": name,
            "quantity": held.get(name, 0),
            "updatedAt": at,
        }
        for name in names
    ]
