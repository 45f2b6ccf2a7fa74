"""Imports people and their consents, and reads them."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple, Unpack

from sqlalchemy import Connection, Row

from services.audit.append import Author, Mutation, append_change
from services.core.counts import format_count
from services.core.csv_files import parse_csv
from services.core.db import Page, fetch_page
from services.core.pg_arrays import arrays, text_array
from services.mail.suppressions import normalize_address
from services.outreach.person import COLUMNS, MAX_PEOPLE, REQUIRED, NewPerson, PeopleInvalid, PersonParser

# All at once in the order of their ids, as a step's composition locks them.
_LOCK = """
select id from outreach_people where shop_id = %(shop_id)s and external_id = any(%(external_id)s::text[])
 order by id for update
"""
# An import never empties a name or a zone, and activity moves forward only.
_UPSERT = """
insert into outreach_people as p (shop_id, external_id, email, name, timezone, signed_up_at, last_active_at,
                                  created_at, changed_at)
select %(shop_id)s, external_id, email, name, timezone, signed_up_at, last_active_at, %(now)s, %(now)s
  from unnest(%(external_id)s::text[], %(email)s::text[], %(name)s::text[], %(timezone)s::text[],
              %(signed_up_at)s::timestamptz[], %(last_active_at)s::timestamptz[])
       as v(external_id, email, name, timezone, signed_up_at, last_active_at)
 order by external_id
on conflict (shop_id, external_id) do update
   set email = excluded.email, name = coalesce(nullif(excluded.name, ''), p.name),
       timezone = coalesce(nullif(excluded.timezone, ''), p.timezone),
       signed_up_at = coalesce(excluded.signed_up_at, p.signed_up_at),
       last_active_at = greatest(p.last_active_at, excluded.last_active_at), changed_at = %(now)s
 where p.email <> excluded.email or excluded.name not in ('', p.name)
    or excluded.timezone not in ('', p.timezone)
    or coalesce(excluded.signed_up_at, p.signed_up_at) is distinct from p.signed_up_at
    or greatest(p.last_active_at, excluded.last_active_at) is distinct from p.last_active_at
returning xmax = 0
"""
_CONSENT = """
insert into outreach_consents (person_id, shop_id, basis, source, given_at, expires_at, created_at)
select p.id, p.shop_id, v.basis, v.source, v.given_at, v.expires_at, %(now)s
  from unnest(%(external_id)s::text[], %(basis)s::text[], %(source)s::text[], %(given_at)s::timestamptz[],
              %(expires_at)s::timestamptz[]) as v(external_id, basis, source, given_at, expires_at)
  join outreach_people p on p.shop_id = %(shop_id)s and p.external_id = v.external_id
 order by p.id
on conflict (person_id, basis, given_at) do nothing
returning id
"""
_LIST = """
select p.shop_id, p.id, p.external_id, p.email, p.name, p.timezone, p.signed_up_at, p.last_active_at,
       c.basis as consent, c.expires_at, c.withdrawn_at
  from outreach_people p
  left join lateral (select * from outreach_consents c where c.person_id = p.id
                      order by c.withdrawn_at nulls first, c.expires_at desc nulls first limit 1) c on true
 where (%(shop_id)s::int is null or p.shop_id = %(shop_id)s) and (%(email)s = '' or p.email = %(email)s)
 order by p.id limit %(limit)s
"""
_LIST_CONSENTS = """
select c.shop_id, c.id, p.external_id, p.email, c.basis, c.source, c.given_at, c.expires_at, c.withdrawn_at,
       c.withdrawn_by
  from outreach_consents c join outreach_people p on p.id = c.person_id
 where (%(shop_id)s::int is null or c.shop_id = %(shop_id)s) and (%(email)s = '' or p.email = %(email)s)
 order by c.id desc limit %(limit)s
"""


class ImportCounts(NamedTuple):
    """The result of an import: people by what happened, and new consents."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    consents: int = 0


def parse_people_csv(text: str, now: datetime) -> list[NewPerson]:
    """Return the people of a file; raise ``PeopleInvalid`` naming each wrong line with field and value."""
    return parse_csv(text, COLUMNS, REQUIRED, PersonParser(now).parse, PeopleInvalid)


def import_people(
    tx: Connection, shop_id: int, people: Sequence[NewPerson], **author: Unpack[Author]
) -> ImportCounts:
    """Insert or change ``people``, and insert their consents; a repeated import changes nothing."""
    counts = [0] * len(ImportCounts._fields)
    ordered = sorted(people, key=lambda one: one.external_id)
    ids = text_array([one.external_id for one in ordered])
    tx.exec_driver_sql(_LOCK, {"shop_id": shop_id, "external_id": ids})
    for part in _split(ordered):
        for index, count in enumerate(_import_part(tx, shop_id, part, author["now"])):
            counts[index] += count
    found = ImportCounts(*counts)
    if found.new or found.changed or found.consents:
        consents = format_count(found.consents, "consent")
        summary = f"people imported: {found.new} new, {found.changed} changed, {consents}"
        mutation = Mutation("outreach_people", str(shop_id), summary, None, found._asdict())
        append_change(tx, "outreach.import", {shop_id: [mutation]}, **author)
    return found


def _split(people: Sequence[NewPerson]) -> Iterator[Sequence[NewPerson]]:
    for start in range(0, len(people), MAX_PEOPLE):
        yield people[start : start + MAX_PEOPLE]


def _import_part(
    tx: Connection, shop_id: int, people: Sequence[NewPerson], now: datetime
) -> tuple[int, int, int, int]:
    usual = {"shop_id": shop_id, "now": now}
    names = "external_id email name timezone signed_up_at last_active_at"
    values = arrays(names, [[getattr(one, name) for name in names.split()] for one in people])
    is_new = [bool(found) for found in tx.exec_driver_sql(_UPSERT, usual | values).scalars()]
    consents = [
        (one.external_id, given.basis, given.source, given.given_at, given.expires_at)
        for one in people
        if (given := one.consent)
    ]
    stored = 0
    if consents:
        given_values = arrays("external_id basis source given_at expires_at", consents)
        stored = len(tx.exec_driver_sql(_CONSENT, usual | given_values).all())
    return sum(is_new), len(is_new) - sum(is_new), len(people) - len(is_new), stored


def list_people(tx: Connection, shop_id: int | None, *, email: str = "", limit: int = 50) -> Page[Row[Any]]:
    """Return people of the shop (None: of all) with the consent that holds longest, by id."""
    return fetch_page(tx, _LIST, limit, {"shop_id": shop_id, "email": email.lower()})


def list_consents(tx: Connection, shop_id: int | None, *, email: str = "", limit: int = 50) -> Page[Row[Any]]:
    """Return consents of the people of the shop (None: of all), newest first."""
    return fetch_page(tx, _LIST_CONSENTS, limit, {"shop_id": shop_id, "email": email.lower()})


def find_ids(tx: Connection, shop_id: int, email: str) -> list[int]:
    """Return the ids of the people who have the address, in either form of its domain (``xn--`` or not)."""
    typed = email.strip().lower()
    local, _, domain = normalize_address(typed).rpartition("@")
    with suppress(UnicodeError):
        domain = domain.encode().decode("idna")
    found = "select id from outreach_people where shop_id = %(shop_id)s and email = any(%(email)s::text[])"
    forms = sorted({typed, normalize_address(typed), f"{local}@{domain}"})
    values = {"shop_id": shop_id, "email": text_array(forms)}
    return list(tx.exec_driver_sql(f"{found} order by id", values).scalars())
