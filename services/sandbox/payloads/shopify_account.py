"""Bodies of Shopify webhooks about the shop itself and about the people in it, made up. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

from services.sandbox.payloads.common import local_text

Body = dict[str, Any]


def make_shop(
    shop_id: int,
    domain: str,
    *,
    updated_at: datetime,
    name: str = "Sandbox",
    currency: str = "USD",
    iana_timezone: str = "America/Vancouver",
    province_code: str = "BC",
    country_code: str = "CA",
    zone: tzinfo = UTC,
) -> Body:
    """Return the body of ``shop/update``, and of ``app/uninstalled``: both tell what the shop is like."""
    at = local_text(updated_at, zone)
    return {
        "id": shop_id,
        "name": name,
        "email": f"owner@{domain}",
        "domain": domain,
        "province": province_code,
        "country": country_code,
        "address1": "190 Example Street",
        "zip": "V5K 0A1",
        "city": "Example",
        "phone": "",
        "primary_locale": "en",
        "created_at": at,
        "updated_at": at,
        "country_code": country_code,
        "country_name": country_code,
        "currency": currency,
        "customer_email": f"help@{domain}",
        "timezone": f"(GMT) {iana_timezone}",
        "iana_timezone": iana_timezone,
        "shop_owner": "Ada Ferreira",
        "weight_unit": "kg",
        "province_code": province_code,
        "taxes_included": False,
        "tax_shipping": True,
        "plan_name": "basic",
        "myshopify_domain": domain,
        "has_storefront": True,
        "enabled_presentment_currencies": [currency],
    }


def make_customer(
    customer_id: int,
    *,
    updated_at: datetime,
    first_name: str = "Ada",
    last_name: str = "Ferreira",
    email: str | None = "ada@example.com",
    phone: str | None = None,
    currency: str = "USD",
    zone: tzinfo = UTC,
) -> Body:
    """Return the body of ``customers/create`` or ``customers/update``."""
    at = local_text(updated_at, zone)
    return {
        "id": customer_id,
        "admin_graphql_api_id": f"gid://shopify/Customer/{customer_id}",
        "created_at": at,
        "updated_at": at,
        "first_name": first_name,
        "last_name": last_name,
        "email": email,
        "phone": phone,
        "currency": currency,
        "state": "disabled",
        "tax_exempt": False,
        "verified_email": True,
    }


def make_data_request(
    shop_id: int, domain: str, customer: Body, *, order_ids: Sequence[int], request_id: int
) -> Body:
    """Return the body of ``customers/data_request``: somebody asks what is kept of them."""
    return {
        "shop_id": shop_id,
        "shop_domain": domain,
        "customer": _who(customer),
        "orders_requested": list(order_ids),
        "data_request": {"id": request_id},
    }


def make_customer_redact(shop_id: int, domain: str, customer: Body, *, order_ids: Sequence[int]) -> Body:
    """Return the body of ``customers/redact``: nothing of a customer may be kept."""
    told = {"shop_id": shop_id, "shop_domain": domain, "customer": _who(customer)}
    return told | {"orders_to_redact": list(order_ids)}


def make_shop_redact(shop_id: int, domain: str) -> Body:
    """Return the body of ``shop/redact``: 48 hours after an uninstall nothing of the shop may be kept."""
    return {"shop_id": shop_id, "shop_domain": domain}


def _who(customer: Body) -> Body:
    return {name: customer[name] for name in ("id", "email", "phone") if customer.get(name)}
