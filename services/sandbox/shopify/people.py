"""What the people in a Shopify webhook look like through GraphQL: customers, addresses, staff. Pure."""

from typing import Any

from services.sandbox.shopify.values import Node, gid, instant

Body = dict[str, Any]


def customer_node(body: Body) -> Node:
    """Return the Customer. One without times of its own was made when the sandbox heard of it."""
    names = [body.get("first_name"), body.get("last_name")]
    email, phone = body.get("email"), body.get("phone")
    return {
        "__typename": "Customer",
        "id": gid("Customer", body["id"]),
        "legacyResourceId": str(body["id"]),
        "displayName": " ".join(name for name in names if name) or email or "",
        "firstName": names[0],
        "lastName": names[1],
        "email": email,
        "defaultEmailAddress": {"emailAddress": email} if email else None,
        "phone": phone,
        "defaultPhoneNumber": {"phoneNumber": phone} if phone else None,
        "createdAt": instant(body.get("created_at")) or "2020-01-01T00:00:00Z",
        "updatedAt": instant(body.get("updated_at")) or "2020-01-01T00:00:00Z",
        "taxExempt": bool(body.get("tax_exempt")),
    }


def address_node(address: Body, number: int) -> Node:
    """Return the MailingAddress of an order."""
    return {
        "__typename": "MailingAddress",
        "id": f"gid://shopify/MailingAddress/{number}?model_name=Address",
        "firstName": address.get("first_name"),
        "lastName": address.get("last_name"),
        "provinceCode": address.get("province_code"),
        "countryCodeV2": address.get("country_code"),
    } | {
        name: address.get(name)
        for name in ("name", "company", "address1", "address2", "city", "zip", "phone", "province", "country")
    }


def staff_node(user_id: object) -> Node | None:
    """Return the StaffMember, or None where nobody of the shop did it."""
    if not user_id:
        return None
    text = str(user_id)
    return {"__typename": "StaffMember", "id": text if "/" in text else gid("StaffMember", text)}
