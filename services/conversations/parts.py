"""Page parts: which blocks the page of a merchant should have, and which it has."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping

from services.conversations.blocks import (
    Block,
    hash_blocks,
    make_part_mark,
    mark_blocks,
    render_parts,
)
from services.core.pg_arrays import arrays, text_array

MOST_PARTS = 200
"""Parts that one write reads; the others of a page are written by the runs of their own events."""

# In the order of the keys, as every other statement on several of these rows.
_PLAN = """
insert into page_parts as p (shop_id, interaction_id, part, merchant_id, wanted, changed_at)
select shop_id, interaction_id, part, merchant_id, wanted, %(now)s
  from unnest(%(shop_id)s::int[], %(interaction_id)s::text[], %(part)s::text[], %(merchant_id)s::bigint[],
              %(wanted)s::text[]) as v(shop_id, interaction_id, part, merchant_id, wanted)
 order by shop_id, interaction_id, part
on conflict (shop_id, interaction_id, part) do update set wanted = excluded.wanted, changed_at = %(now)s
   where p.wanted <> excluded.wanted
"""

_FIND_PENDING = """
select p.shop_id, p.interaction_id, p.part, p.block_ids, p.attempted_at is not null as is_doubtful, i.kind,
       i.direction, i.status, i.participants, i.body, i.detail, i.occurred_at
  from page_parts p join interactions i on i.shop_id = p.shop_id and i.provider_id = p.interaction_id
 where p.merchant_id = %(merchant_id)s and p.wanted <> p.written
 order by i.provider_id = %(subject)s desc, i.occurred_at, p.interaction_id, p.part limit %(limit)s
"""

# All changes lock rows in the order of the keys.
_LOCK = """
select p.shop_id, p.interaction_id, p.part
  from unnest(%(shop_id)s::int[], %(interaction_id)s::text[], %(part)s::text[])
       as k(shop_id, interaction_id, part) join page_parts p using (shop_id, interaction_id, part)
 order by p.shop_id, p.interaction_id, p.part for update of p
"""
_LOCK_OF_MERCHANT = """
select shop_id, interaction_id, part from page_parts where merchant_id = %(merchant_id)s
 order by shop_id, interaction_id, part for update
"""
_IS_LOCKED = "(p.shop_id, p.interaction_id, p.part) = (l.shop_id, l.interaction_id, l.part)"

_ATTEMPT = f"with l as ({_LOCK}) update page_parts p set attempted_at = %(now)s from l where {_IS_LOCKED}"  # noqa: S608

_FIND_BLOCKS = """
select shop_id, interaction_id, block_ids from page_parts
 where merchant_id = %(merchant_id)s and block_ids <> '{}'
   and interaction_id = any(%(interaction_id)s::text[])
 order by interaction_id, changed_at
"""

_RECORD = f"""
with l as ({_LOCK}), v as (
  select * from unnest(%(shop_id)s::int[], %(interaction_id)s::text[], %(part)s::text[], %(written)s::text[],
                       %(block_ids)s::text[]) as u(shop_id, interaction_id, part, written, block_ids)
)
update page_parts p
   set written = v.written, block_ids = string_to_array(v.block_ids, ' '), attempted_at = null
  from l join v using (shop_id, interaction_id, part) where {_IS_LOCKED}
"""  # noqa: S608 - constants only

_CLEAR_ATTEMPTS = f"""
with l as ({_LOCK_OF_MERCHANT}) update page_parts p set attempted_at = null from l where {_IS_LOCKED}
   and p.attempted_at is not null
"""  # noqa: S608

_FORGET_BLOCKS = f"""
with l as ({_LOCK_OF_MERCHANT})
update page_parts p set written = '', block_ids = '{{}}', attempted_at = null from l where {_IS_LOCKED}
"""  # noqa: S608


class PendingPart(NamedTuple):
    """A part that the page lacks in its present version.

    ``blocks`` are the toggles by marker; none: the part is removed.
    ``old_block_ids`` are blocks of the version that is on the page. ``is_doubtful``: an earlier try may have
    appended blocks.
    """

    shop_id: int
    interaction_id: str
    part: str
    digest: str
    mark: str
    blocks: Mapping[str, Block]
    old_block_ids: Sequence[str]
    is_doubtful: bool

    @property
    def key(self) -> tuple[int, str, str]:
        return self.shop_id, self.interaction_id, self.part


def plan_parts(tx: Connection, rows: Iterable[Mapping[str, Any]], now: datetime) -> None:
    """Store which parts the pages of the interactions should have; one without a merchant has no page."""
    wanted = [
        (row["shop_id"], row["provider_id"], part, row["merchant_id"], hash_blocks(blocks))
        for row in rows
        if row["merchant_id"] is not None
        for part, blocks in render_parts(row).items()
    ]
    if wanted:
        values = arrays("shop_id interaction_id part merchant_id wanted", wanted)
        tx.exec_driver_sql(_PLAN, values | {"now": now})


def begin_attempts(
    tx: Connection, subjects: Mapping[int, str], now: datetime
) -> dict[int, list[PendingPart]]:
    """Return the parts that the pages of the merchants lack; ``subjects``: an interaction by merchant.

    Its parts are among them in any case. From the commit on they all count as attempted: a try that ends
    without a result may have written them.
    """
    found = {}
    for merchant_id, subject in subjects.items():
        values = {"merchant_id": merchant_id, "subject": subject, "limit": MOST_PARTS}
        rows = sorted(tx.exec_driver_sql(_FIND_PENDING, values), key=lambda row: row.occurred_at)
        found[merchant_id] = [_make_part(row._mapping) for row in rows]
    keys = [part.key for parts in found.values() for part in parts]
    if keys:
        tx.exec_driver_sql(_ATTEMPT, arrays("shop_id interaction_id part", keys) | {"now": now})
    return found


def _make_part(row: RowMapping) -> PendingPart:
    blocks = render_parts({**row}).get(row["part"], [])
    digest = hash_blocks(blocks)
    mark = make_part_mark(row["shop_id"], row["interaction_id"], row["part"])
    return PendingPart(
        row["shop_id"],
        row["interaction_id"],
        row["part"],
        digest,
        mark,
        mark_blocks(blocks, mark, digest),
        row["block_ids"],
        row["is_doubtful"],
    )


def find_last_blocks(
    tx: Connection, merchant_id: int, interaction_ids: Collection[str]
) -> dict[tuple[int, str], str]:
    """Return the last block on the page of each of the interactions that has one."""
    values = {"merchant_id": merchant_id, "interaction_id": text_array(sorted(interaction_ids))}
    rows = tx.exec_driver_sql(_FIND_BLOCKS, values)
    return {(row.shop_id, row.interaction_id): row.block_ids[-1] for row in rows}


def record_parts(tx: Connection, written: Mapping[tuple[int, str, str], tuple[str, Sequence[str]]]) -> None:
    """Store the digest and the block ids of each part that is on its page now."""
    if written:
        rows = [(*key, digest, " ".join(ids)) for key, (digest, ids) in written.items()]
        tx.exec_driver_sql(_RECORD, arrays("shop_id interaction_id part written block_ids", rows))


def clear_attempts(tx: Connection, merchant_id: int) -> None:
    """Store that the last try wrote nothing to the page."""
    tx.exec_driver_sql(_CLEAR_ATTEMPTS, {"merchant_id": merchant_id})


def forget_blocks(tx: Connection, merchant_ids: Collection[int]) -> None:
    """Store that the pages of the merchants have no blocks: all parts are written to the new pages."""
    for merchant_id in merchant_ids:
        tx.exec_driver_sql(_FORGET_BLOCKS, {"merchant_id": merchant_id})
