"""Compare the shop in a payload with the shop that received it.

One app secret may sign for many shops, so a valid signature does not prove which of them a payload is about.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from sqlalchemy import Connection

from services.core.fields import text_or_empty
from services.core.pg_arrays import int_array
from services.shopify.event_payload import WrongBody

_FIND = """
select s.shop_id, array_prepend(s.shopify_domain, s.former_shopify_domains) as domains, t.shopify_id
  from shop_config s left join storefronts t on t.shop_id = s.shop_id
 where s.shop_id = any(%(shop_id)s::int[])
"""

UNCONFIRMED = "shopify.erasure_not_confirmed"
"""The error code of a shop's erasure that waits for its confirmation."""

_FIND_DEAD_ERASURES = """
select w.id from work_queue w join inbound_events e on e.id = w.event_id and e.topic = 'shop/redact'
 where w.shop_id = %(shop_id)s and w.topic = 'privacy_redact' and w.status = 'dead'
   and w.error_code = %(code)s and (%(event_id)s::bigint is null or w.event_id = %(event_id)s)
"""


class Identity(NamedTuple):
    """A shop's current and former domains in lower case, and its id at Shopify."""

    domains: tuple[str, ...] = ()
    shopify_id: int | None = None


def find_identities(tx: Connection, shop_ids: Collection[int]) -> dict[int, Identity]:
    """Return the identity of each of the shops."""
    identities = {}
    for row in tx.exec_driver_sql(_FIND, {"shop_id": int_array(sorted(shop_ids))}):
        domains = [name.lower() for name in row.domains if name]
        identities[row.shop_id] = Identity(tuple(domains), row.shopify_id)
    return identities


def check_description(source: Mapping[str, object], known: Identity) -> None:
    """Raise ``WrongBody`` where a payload of ``shop/update`` or ``app/uninstalled`` is of another shop."""
    domain = text_or_empty(source.get("myshopify_domain")).lower()
    if domain and known.domains and domain not in known.domains:
        raise WrongBody("myshopify_domain", domain, f"this shop's own domain, {known.domains[0]}")
    if known.shopify_id is not None and source.get("id") != known.shopify_id:
        raise WrongBody("id", source.get("id"), f"this shop's own id, {known.shopify_id}")


def check_named(domain: str, shopify_id: int, known: Identity) -> None:
    """Raise ``WrongBody`` unless a privacy request is about this shop, by its domain or by its id."""
    if shopify_id == known.shopify_id or domain in known.domains:
        return
    own = "which is not set: `fleet shops set SHOP --shopify-domain NAME`"
    if known.domains:
        own = f"{known.domains[0]}; discard it where it is forged"
    raise WrongBody("shop_domain", domain, f"this shop's own domain, {own}")


def find_dead_erasures(tx: Connection, shop_id: int, event_id: int | None = None) -> list[int]:
    """Return the ids of the shop's erasures that wait for a confirmation; only that of an event, if given."""
    values = {"shop_id": shop_id, "code": UNCONFIRMED, "event_id": event_id}
    return list(tx.exec_driver_sql(_FIND_DEAD_ERASURES, values).scalars())
