"""The catalogue of a sandbox shop for a first try: the items that ``fleet send`` sells, in one location."""

from typing import Any

from services.core.clock import utc_now
from services.core.db import transaction
from services.sandbox.payloads.catalogue import make_product, make_sample_items, make_shopify_body
from services.sandbox.payloads.templates import load_templates
from services.shops.shops import Shop, list_shops

LEVEL = 12
"""The stock of the first item; each further one has one piece less."""


def find_sample_shop(domain: str) -> dict[str, Any]:
    """Return the control request that fills the shop ``domain``, in the recorded shop's currency and zone.

    That shop has this domain. Before ``fleet shops connect`` records the domain, it is the shop whose slug is
    the first part of the domain.
    """
    with transaction() as tx:
        known = list_shops(tx)
    chosen = [shop for shop in known if shop.shopify_domain == domain]
    chosen += [shop for shop in known if shop.slug == domain.partition(".")[0]]
    return make_sample_shop(chosen[0], domain) if chosen else {}


def make_sample_shop(shop: Shop, domain: str) -> dict[str, Any]:
    now, currency = utc_now(), shop.currency
    items = make_sample_items(currency)
    about = {"domain": domain, "name": shop.name, "currency": currency, "iana_timezone": shop.timezone}
    location = load_templates("shopify")["defaults"]["location_id"]
    webhooks = [
        ("shop/update", make_shopify_body("shop/update", at=now, **about)),
        ("locations/update", make_shopify_body("locations/update", at=now)),
        *(("products/update", make_product([item], updated_at=now, currency=currency)) for item in items),
        *(
            ("inventory_items/update", make_shopify_body("inventory_items/update", item=item, at=now))
            for item in items
        ),
    ]
    return {
        "webhooks": [{"topic": topic, "body": body} for topic, body in webhooks],
        "levels": [
            {"inventory_item_id": item.inventory_item_id, "location_id": location, "available": LEVEL - place}
            for place, item in enumerate(items)
        ],
    }
