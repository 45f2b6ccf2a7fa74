"""Personal data of merchants: names, phone numbers and mail addresses, and their pages at Notion."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from services.conversations.cache_copies import delete_copies
from services.conversations.merchants import make_key
from services.core.pg_arrays import int_array, text_array
from services.ledger.accept import record_work
from services.ledger.work import NewWork
from services.privacy.subject import DataSubject, PersonalDataRows, PersonalDataSource

_WHO = """
m.shop_id = %(shop_id)s and (%(whole_shop)s or m.mails && %(mails)s::text[] or exists (
  select from unnest(m.phones) as number
   where regexp_replace(number, '[^0-9]', '', 'g') = any(%(phones)s::text[])))
"""
_FIND = f"select m.name, m.phones, m.mails, m.created_at from merchants m where {_WHO} order by m.id"  # noqa: S608
# The row stays with the id of the page until the page is in the trash.
_EMPTY = f"""
update merchants m set name = '', contact_id = '', phones = '{{}}', mails = '{{}}',
       used_addresses = '{{}}', page_values = '',
       changed_at = %(now)s, redacted_at = %(now)s
 where {_WHO} and m.redacted_at is null returning m.id, m.shop_id, m.page_id <> '' as has_page
"""  # noqa: S608
# An address that belongs to no merchant may have an entry too.
_DELETE_CACHED = """
delete from canvas_cache c where c.shop_id = %(shop_id)s and (
       %(whole_shop)s or c.merchant_id = any(%(merchant_id)s::bigint[]) or c.address = any(%(mails)s::text[])
    or c.address not like '%%@%%' and regexp_replace(c.address, '[^0-9]', '', 'g') = any(%(phones)s::text[]))
returning c.shop_id, c.address
"""


def find_merchant_rows(tx: Connection, subject: DataSubject) -> PersonalDataRows:
    """Yield the merchants with the subject's numbers and addresses."""
    yield from map(dict, tx.exec_driver_sql(_FIND, _values(subject)).mappings())


def redact_merchants(tx: Connection, subject: DataSubject, now: datetime) -> Mapping[str, int]:
    """Empty the rows of the subject's merchants, and plan that their pages go to the trash at Notion.

    The pages of a whole shop are in its own workspace, whose key is retired with the shop: they stay.
    """
    values = _values(subject)
    rows = tx.exec_driver_sql(_EMPTY, values | {"now": now}).all()
    merchant_ids = int_array(row.id for row in rows)
    cached = tx.exec_driver_sql(_DELETE_CACHED, values | {"merchant_id": merchant_ids}).all()
    delete_copies([(row.shop_id, row.address) for row in cached])
    if not subject.whole_shop:
        removals = [
            NewWork(shop_id=row.shop_id, topic="notion_write", key=make_key(row.id), origin="privacy")
            for row in rows
            if row.has_page
        ]
        record_work(tx, removals, now)
    return {"merchants": len(rows), "canvas_cache": len(cached)}


def _values(subject: DataSubject) -> dict[str, Any]:
    return {
        "shop_id": subject.shop_id,
        "whole_shop": subject.whole_shop,
        "mails": text_array(sorted(subject.emails)),
        "phones": text_array(sorted(subject.phones)),
    }


MERCHANTS = PersonalDataSource(
    name="who the shop has calls, messages and mails with",
    tables=("merchants", "canvas_cache"),
    find=find_merchant_rows,
    redact=redact_merchants,
)
