"""Handler of Quo's contacts: the name, numbers and addresses of merchants."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from services.audit.chain import AuditEntry, Mutation
from services.conversations.addresses import normalize_all
from services.conversations.merchants import find_connected_shops, make_key, make_lock, split_addresses
from services.core.errors import Refused
from services.core.fields import Unreadable, find_text, parse_items, read_instant, read_object, read_text
from services.core.locks import lock_objects
from services.core.pg_arrays import text_array
from services.ledger.audit_text import audit_entry
from services.ledger.work import Done, HandlerResult, NewWork, Outcome, WorkItem

MOST_ADDRESSES = 50
LONGEST_NAME = 200

_FIND = """
select m.id, m.name, m.contact_id, m.contact_at, m.phones || m.mails as addresses, m.page_id,
       m.used_addresses from merchants m
 where m.shop_id = %(shop_id)s and m.redacted_at is null
   and (m.contact_id = %(contact_id)s or m.phones && %(address)s::text[] or m.mails && %(address)s::text[])
 order by m.contact_id = %(contact_id)s desc, m.id
"""
_UPDATE = """
update merchants set name = %(name)s, contact_id = %(contact_id)s, contact_at = %(at)s,
       phones = %(phones)s::text[], mails = %(mails)s::text[], changed_at = %(now)s
 where id = %(id)s
"""


class ContactUpdate(NamedTuple):
    """A contact as an event has it; without a name and addresses if it was deleted."""

    shop_id: int
    contact_id: str
    at: datetime
    name: str
    addresses: list[str]


def ingest_contacts(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Give the merchants with a number or address of each contact its name and all its addresses.

    A deleted contact takes its name away, and the addresses that no call, message or mail had. Results:
    ``done``, ``stale``, ``unknown`` (no merchant has an address of it), ``ignored`` (a shop without Notion).
    """
    parsed = parse_items(items, parse_contact, "quo.unreadable_event")
    updates = [update for update in parsed if isinstance(update, ContactUpdate)]
    connected = find_connected_shops(tx, {update.shop_id for update in updates}) if updates else set()
    lock_objects(tx, {lock for update in updates for lock in _list_locks(update)})
    new_work: list[NewWork] = []
    audit: list[AuditEntry] = []

    def settle(item: WorkItem, update: ContactUpdate | Refused) -> Outcome:
        if isinstance(update, Refused):
            return update
        if update.shop_id not in connected:
            return Done("ignored")
        found = _find(tx, update)
        if not found:
            return Done("unknown")
        merchant, taken = found[0], {one for other in found[1:] for one in other.addresses}
        if merchant.contact_at is not None and update.at < merchant.contact_at:
            return Done("stale")
        changed = _update(tx, merchant, update, taken, now)
        if changed:
            summary = (
                f"merchant {merchant.id}: {' and '.join(changed)} changed, as in contact {update.contact_id}"
            )
            audit.append(audit_entry(item, [Mutation("merchants", str(merchant.id), summary)]))
            if merchant.page_id:
                key = make_key(merchant.id)
                new_work.append(NewWork(shop_id=item.shop_id, topic="notion_write", key=key,
                                        event_id=item.event_id, request_id=item.request_id))  # fmt: skip
        return Done()

    return HandlerResult(list(map(settle, items, parsed)), new_work, audit)


def parse_contact(item: WorkItem) -> ContactUpdate:
    """Return the contact in ``item``'s event, of either format; raise ``Unreadable`` naming the field."""
    event = read_object(item.body)
    data = event.get("data")
    source = data.get("resource", data.get("object")) if isinstance(data, dict) else None
    if not isinstance(source, dict):
        raise Unreadable("data.object", source, "the contact, or data.resource in the newer format")
    at, contact_id = read_instant(event, "createdAt"), read_text(source, "id")
    if read_text(event, "type") == "contact.deleted":
        return ContactUpdate(item.shop_id, contact_id, at, "", [])
    name, addresses = read_contact(source)
    return ContactUpdate(item.shop_id, contact_id, at, name, addresses)


def read_contact(source: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the name, and the normalized numbers and addresses, of a contact of Quo.

    They are in ``phoneNumbers`` and ``emails``, also within ``defaultFields``, and in the older format in
    ``fields`` by type.
    """
    inner = source.get("defaultFields")
    fields = inner if isinstance(inner, dict) else source
    parts = (find_text(fields, "firstName"), find_text(fields, "lastName"))
    name = " ".join(filter(None, parts)) or find_text(fields, "company")
    entries = [*_list(fields, "phoneNumbers"), *_list(fields, "emails")]
    entries += [
        one
        for one in _list(source, "fields")
        if isinstance(one, dict) and one.get("type") in ("phone-number", "phoneNumber", "email")
    ]
    values = [one.get("value") if isinstance(one, dict) else one for one in entries]
    return name.replace("\0", "")[:LONGEST_NAME], normalize_all(values)[:MOST_ADDRESSES]


def _list(fields: Mapping[str, Any], name: str) -> list[Any]:
    value = fields.get(name)
    return value if isinstance(value, list) else []


def _list_locks(update: ContactUpdate) -> list[tuple[int, str]]:
    locks = [make_lock((update.shop_id, address)) for address in update.addresses]
    return [*locks, (update.shop_id, f"contact:{update.contact_id}")]


def _find(tx: Connection, update: ContactUpdate) -> list[Row[Any]]:
    values = {
        "shop_id": update.shop_id,
        "contact_id": update.contact_id,
        "address": text_array(update.addresses),
    }
    return [*tx.exec_driver_sql(_FIND, values)]


def _update(
    tx: Connection, merchant: Row[Any], update: ContactUpdate, taken: Collection[str], now: datetime
) -> list[str]:
    """Store the contact in its merchant; return what changed. Addresses of other merchants stay there."""
    free = [one for one in update.addresses if one not in taken]
    addresses = list(dict.fromkeys([*merchant.used_addresses, *free]))
    phones, mails = split_addresses(addresses)
    contact_id = update.contact_id if update.addresses or update.name else ""
    values = {
        "id": merchant.id, "name": update.name, "contact_id": contact_id, "at": update.at, "now": now,
        "phones": text_array(phones), "mails": text_array(mails),
    }  # fmt: skip
    tx.exec_driver_sql(_UPDATE, values)
    differences = {"name": merchant.name != update.name, "addresses": {*merchant.addresses} != {*addresses}}
    return [name for name, differs in differences.items() if differs]
