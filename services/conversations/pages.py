"""The page of a merchant at Notion: found by the merchant's UUID, or by a number or address, or created."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from services.conversations.access import NotionAccess
from services.conversations.merchants import Merchant, split_addresses
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Deferred, Misconfigured, OutcomeUnknown, Refused, RetryLater
from services.providers.call_outcomes import noted_call
from services.providers.notion import PROVIDER

if TYPE_CHECKING:
    from services.providers.notion import Notion

UUID_PROPERTY, PHONE_PROPERTY, MAIL_PROPERTY = "Merchant UUID", "Phone", "Email"
_TYPES = {UUID_PROPERTY: "rich_text", PHONE_PROPERTY: "phone_number", MAIL_PROPERTY: "email"}
MOST_ADDRESSES = 20
"""Addresses of one search, and the longest list of a merchant that is compared."""
LONGEST_MAIL = 200
"""Characters of a mail address that a property of Notion takes; a longer one is only in the title."""
_SCHEMA_SECONDS = 600.0
INDEX_DELAY = timedelta(seconds=30)
"""After this time a query of the data source finds a new page, if there is one.

Notion states a delay for its search of a workspace, which is not used here, and none for this query.
"""
MEANWHILE, USUAL_CREATION = timedelta(seconds=2), timedelta(seconds=6)
"""The wait while another worker creates the page, and for how long that is likely."""

_BEGIN_ATTEMPT = """
update merchants set page_attempted_at = %(at)s
 where id = %(id)s and page_id = %(page_id)s and page_attempted_at is not distinct from %(attempted_at)s
"""
_SET_ATTEMPT = "update merchants set page_attempted_at = %(at)s where id = %(id)s"

_schemas: dict[tuple[str, str], tuple[float, "PageSchema"]] = {}
_reading = Lock()


class PageSchema(NamedTuple):
    """The names of a data source's properties; ``phone`` and ``mail`` are empty if it has none."""

    title: str
    uuid: str
    phone: str
    mail: str


class FoundPage(NamedTuple):
    """The page of a merchant. ``values``: the digest of the properties that it has now."""

    page_id: str
    values: str
    outcome: str
    """``found``, ``adopted`` (found by address, and given the UUID) or ``created``."""


def fetch_schema(notion: "Notion", access: NotionAccess) -> PageSchema:
    """Return the properties of the shop's data source, as they were at most ten minutes ago.

    Raises ``Misconfigured`` if it lacks the UUID property.
    """
    key = access.key, access.data_source_id
    with _reading:
        read_at, schema = _schemas.get(key, (0.0, None))
        if schema is None or time.monotonic() > read_at + _SCHEMA_SECONDS:
            schema = load_schema(notion, access.data_source_id)
            _schemas[key] = time.monotonic(), schema
    return schema


def load_schema(notion: "Notion", data_source_id: str) -> PageSchema:
    """Return the properties as they are; a missing one is noted as a refusal, as its error is."""
    with noted_call(PROVIDER, "data_sources"):
        return read_schema(notion.fetch_data_source(data_source_id))


def read_schema(data_source: Mapping[str, Any]) -> PageSchema:
    """Return the properties by which pages are found; raise ``Misconfigured`` without the UUID property."""
    properties = data_source.get("properties")
    types = {
        name: one.get("type")
        for name, one in (properties if isinstance(properties, dict) else {}).items()
        if isinstance(one, dict)
    }
    title = next((name for name, kind in types.items() if kind == "title"), "")
    known = {name: name if types.get(name) == kind else "" for name, kind in _TYPES.items()}
    if not (title and known[UUID_PROPERTY]):
        why = f"the data source has no text property {UUID_PROPERTY!r}: add it, then requeue this work"
        raise Misconfigured("notion.property_missing", why, is_partial=True)
    return PageSchema(title, known[UUID_PROPERTY], known[PHONE_PROPERTY], known[MAIL_PROPERTY])


def make_properties(schema: PageSchema, merchant: Merchant) -> dict[str, Any]:
    """Return the properties of the merchant's page; a redacted merchant has its UUID alone."""
    phone = next(iter(merchant.phones), None)
    mail = next((one for one in merchant.mails if len(one) <= LONGEST_MAIL), None)
    name = merchant.name or next(iter(merchant.addresses), "") or str(merchant.uuid)
    found: dict[str, Any] = {
        schema.title: {"title": [{"type": "text", "text": {"content": name[:200]}}]},
        schema.uuid: {"rich_text": [{"type": "text", "text": {"content": str(merchant.uuid)}}]},
    }
    if schema.phone:
        found[schema.phone] = {"phone_number": phone}
    if schema.mail:
        found[schema.mail] = {"email": mail}
    return found


def hash_values(merchant: Merchant) -> str:
    """Return the digest of what the properties of the page are made from."""
    values = [merchant.name, merchant.phones[:1], merchant.mails[:1]]
    return hashlib.sha256(orjson.dumps(values)).hexdigest()[:12]


def find_or_create_page(notion: "Notion", access: NotionAccess, merchant: Merchant) -> FoundPage:
    """Return the merchant's page: the oldest with its UUID, else one of an address of it, else a new one.

    A page that has the UUID of another merchant is not taken. After a creation without an
    answer nothing is created until a query would find the page, or while another worker creates it:
    ``Deferred``.
    """
    schema = fetch_schema(notion, access)
    condition = _make_filter(schema, merchant.phones, merchant.mails, str(merchant.uuid))
    pages = _list_oldest_first(notion, access, condition)
    uuids = [read_uuid(schema, page) for page in pages]
    if (uuid := str(merchant.uuid)) in uuids:
        return FoundPage(str(pages[uuids.index(uuid)]["id"]), merchant.page_values, "found")
    properties, digest = make_properties(schema, merchant), hash_values(merchant)
    if "" in uuids:
        page_id = str(pages[uuids.index("")]["id"])
        notion.update_page(page_id, properties={schema.uuid: properties[schema.uuid]})
        # A person made this page: its title and its other properties stay.
        return FoundPage(page_id, digest, "adopted")
    attempted_at, now = merchant.page_attempted_at, utc_now()
    if attempted_at is not None and now < attempted_at + INDEX_DELAY:
        why = "the page may have been created, and a query may not find it yet"
        is_young = now < attempted_at + USUAL_CREATION
        wait = MEANWHILE if is_young else attempted_at + INDEX_DELAY - now
        raise Deferred("notion.page_in_doubt", why, wait=wait)
    with transaction() as tx:
        seen = {"page_id": merchant.page_id, "attempted_at": attempted_at}
        if not tx.exec_driver_sql(_BEGIN_ATTEMPT, {"id": merchant.id, "at": now} | seen).rowcount:
            raise Deferred("notion.page_in_doubt", "another worker creates the page", wait=MEANWHILE)
    try:
        page = notion.create_page(access.data_source_id, properties)
    except OutcomeUnknown:
        _record_attempt(merchant, utc_now())  # Notion may take a minute for a request
        raise
    except (RetryLater, Refused, Misconfigured):
        _record_attempt(merchant, None)
        raise
    return FoundPage(str(page["id"]), digest, "created")


def _record_attempt(merchant: Merchant, at: datetime | None) -> None:
    with transaction() as tx:
        tx.exec_driver_sql(_SET_ATTEMPT, {"id": merchant.id, "at": at})


def find_page(notion: "Notion", access: NotionAccess, address: str, merchant: Merchant | None) -> str:
    """Return the id of the page that the merchant has, or without one of a page with ``address``; or ``""``.

    Nothing is created, and no page gets a UUID.
    """
    schema = fetch_schema(notion, access)
    phones, mails = split_addresses([address])
    uuid = str(merchant.uuid) if merchant else ""
    if merchant is not None:
        phones, mails = merchant.phones, merchant.mails
    condition = _make_filter(schema, phones, mails, uuid)
    pages = _list_oldest_first(notion, access, condition) if condition["or"] else []
    wanted = [page for page in pages if not uuid or read_uuid(schema, page) in ("", uuid)]
    wanted.sort(key=lambda page: read_uuid(schema, page) != uuid)
    return str(wanted[0]["id"]) if wanted else ""


def _list_oldest_first(
    notion: "Notion", access: NotionAccess, condition: Mapping[str, Any]
) -> list[dict[str, Any]]:
    pages = notion.list_pages(access.data_source_id, condition)
    return sorted(pages, key=lambda page: str(page.get("created_time", "")))


def _make_filter(
    schema: PageSchema, phones: Sequence[str], mails: Sequence[str], uuid: str
) -> dict[str, Any]:
    """Return the filter of pages with the UUID or one of the addresses; an empty ``uuid`` is left out."""
    conditions: list[dict[str, Any]] = []
    if uuid:
        conditions.append({"property": schema.uuid, "rich_text": {"equals": uuid}})
    if schema.phone:
        conditions += [
            {"property": schema.phone, "phone_number": {"equals": one}} for one in phones[:MOST_ADDRESSES]
        ]
    if schema.mail:
        short = [one for one in mails if len(one) <= LONGEST_MAIL]
        conditions += [{"property": schema.mail, "email": {"equals": one}} for one in short[:MOST_ADDRESSES]]
    return {"or": conditions}


def read_uuid(schema: PageSchema, page: Mapping[str, Any]) -> str:
    """Return the UUID that the page has; empty without one."""
    properties = page.get("properties")
    value = properties.get(schema.uuid) if isinstance(properties, dict) else None
    texts = value.get("rich_text") if isinstance(value, dict) else None
    parts = [one.get("plain_text") for one in texts or () if isinstance(one, dict)]
    return "".join(part for part in parts if isinstance(part, str)).strip()
