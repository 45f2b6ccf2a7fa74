"""Queries of the stored chains: streams for verification, single rows for diagnosis."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from datetime import date, datetime
from itertools import islice
from typing import Any, Final

import psycopg
from sqlalchemy import Connection, CursorResult, Row, cast, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import OperationalError

from services.audit.chain import ChainPosition, ChainRow, RowTuple
from services.audit.diagnose import ChainRows
from services.audit.tables import audit_events
from services.core.db import Page, fetch_page
from services.core.pg_arrays import int_array

CHUNK_ROWS = 5000
"""Rows in memory at a time: a few MB."""

STATEMENT_ROWS = 50_000
"""Rows of one statement: a reader that stops early still reads the rest of it, 0.1 s."""

ALL_ROWS = -(2**63) - 1
"""Less than every number of the column."""

# to_char writes years without a sign, so 2026 BC would look like 2026; of an infinite time it is null.
_AT_TEXT = """
case when at > 'epoch' and isfinite(at)
     then to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
     else 'before 1970 or infinite' end
"""
_COLUMNS = f"""
seq, {_AT_TEXT} as at, staff_label, action, request_id, work_id, mutations, prev_hash, hash
"""
# "is not distinct from" uses no index, so each statement exists twice.
_OF_CHAIN: Final = {False: "shop_id = %(shop_id)s", True: "shop_id is null and %(shop_id)s::int is null"}


def per_chain(statement: str) -> dict[bool, str]:
    """Return ``statement`` for a shop's chain (False) and the fleet's (True), with OF_CHAIN filled in.

    COLUMNS stands for the fields of ``ChainRow``, AT_TEXT for ``at`` as the text that is hashed.
    """
    filled = statement.replace("COLUMNS", _COLUMNS).replace("AT_TEXT", _AT_TEXT)
    return {is_fleet: filled.replace("OF_CHAIN", words) for is_fleet, words in _OF_CHAIN.items()}


def query_chain(
    tx: Connection, statements: dict[bool, str], shop_id: int | None, **values: Any
) -> CursorResult[Any]:
    """Return the result of ``statements``, of ``per_chain``, for the chain of ``shop_id``."""
    return tx.exec_driver_sql(statements[shop_id is None], {"shop_id": shop_id, **values})


_STREAM = per_chain("""
select COLUMNS from audit_events
 where OF_CHAIN and seq >= %(first)s and seq <= %(until)s order by seq limit %(limit)s
""")
_AT = per_chain("select COLUMNS, id from audit_events where OF_CHAIN and seq = %(seq)s")
_AFTER = per_chain("""
select COLUMNS, id from audit_events where OF_CHAIN and prev_hash = %(prev_hash)s order by seq limit 10
""")
_ENDS = per_chain("""
select (select seq from audit_events where OF_CHAIN and seq > 0 order by seq limit 1) as first_seq, seq, hash
  from audit_events where OF_CHAIN and seq > 0 order by seq desc limit 1
""")
_UNNUMBERED = per_chain(
    "select COLUMNS, id from audit_events where OF_CHAIN and seq < 1 order by seq limit 1"
)
_HASHES = per_chain("select seq, hash from audit_events where OF_CHAIN and seq = any(%(seq)s::bigint[])")
_SINCE = per_chain("select min(seq) from audit_events where OF_CHAIN and at >= %(since)s")

_EVENTS_ON = """
select shop_id, (at at time zone 'UTC')::date as day, count(*) as count, max(seq) as seq from audit_events
 where at >= %(since)s and action = %(action)s group by 1, 2 order by 1, 2
"""

# Work has its own evidence; what remains are changes by people, commands and deploys.
_CHANGES = """
select * from (
  select e.id, e.shop_id, e.at, e.staff_label, e.action,
         (select string_agg(m.summary, '; ' order by m.place) from audit_mutations m
           where m.event_id = e.id) as summaries
    from audit_events e
   where e.at between %(since)s and %(until)s and e.work_id is null
     and (e.shop_id is null or e.shop_id = %(shop_id)s::int)
   order by e.id desc limit %(limit)s
) newest order by at, id
"""

# One index lookup per chain, independent of its length.
_CHAINS = """
with recursive chains(shop_id) as (
  select min(shop_id) from audit_events
   union all
  select (select min(e.shop_id) from audit_events e where e.shop_id > c.shop_id)
    from chains c where c.shop_id is not null
)
select shop_id from chains where shop_id is not null
 union select shop_id from audit_archives
 union select shop_id from audit_checkpoints
 union select null where exists (select from audit_events where shop_id is null)
 order by 1 nulls first
"""


def use_snapshot(tx: Connection) -> None:
    """Let ``tx`` read one snapshot, or rows archived meanwhile would look missing. Call it first."""
    tx.exec_driver_sql("set transaction isolation level repeatable read, read only")


def list_entries(
    tx: Connection, *, shop_id: int | None, since: datetime | None, by: str, table: str, limit: int
) -> Page[Row[Any]]:
    """Return the stored entries, newest first: of a shop, since a time, of a person, about a table.

    ``by`` is a part of the label of who acted; archived entries are not returned.
    """
    column = audit_events.c
    wanted = select(*(each for each in column if each.name != "prev_hash"))
    wanted = wanted.order_by(column.id.desc() if shop_id is None else column.seq.desc())
    if shop_id is not None:
        wanted = wanted.where(column.shop_id == shop_id)
    if since is not None:
        wanted = wanted.where(column.at >= since)
    if by:
        wanted = wanted.where(column.staff_label.icontains(by, autoescape=True))
    if table:
        wanted = wanted.where(cast(column.mutations, JSONB).contains([{"table_name": table}]))
    return fetch_page(tx, wanted, limit)


def list_chains(tx: Connection) -> list[int | None]:
    """Return the shops that have or had a chain; None is the fleet's own."""
    return list(tx.exec_driver_sql(_CHAINS).scalars())


def find_ends(tx: Connection, shop_id: int | None) -> tuple[int, ChainPosition] | None:
    """Return the number of the first stored row, and the head; None for a chain without rows.

    Ignores rows with a number under 1: ``StoredChain.find_unnumbered`` finds them.
    """
    row = query_chain(tx, _ENDS, shop_id).first()
    return None if row is None else (row.first_seq, ChainPosition(row.seq, row.hash))


def find_first_since(tx: Connection, shop_id: int | None, since: datetime) -> int | None:
    """Return the number of the first row at ``since`` or later."""
    found: int | None = query_chain(tx, _SINCE, shop_id, since=since).scalar()
    return found


def find_hashes(tx: Connection, shop_id: int | None, seqs: Iterable[int]) -> dict[int, str]:
    """Return the hashes of the stored rows among ``seqs``, by number."""
    return {row.seq: row.hash for row in query_chain(tx, _HASHES, shop_id, seq=int_array(sorted(set(seqs))))}


def count_events(tx: Connection, action: str, since: datetime) -> list[tuple[int | None, date, int, int]]:
    """Return chain, day (UTC), number of events of ``action`` and newest row number, per chain and day."""
    found = tx.exec_driver_sql(_EVENTS_ON, {"action": action, "since": since})
    return [(row.shop_id, row.day, row._mapping["count"], row.seq) for row in found]


def find_changes(
    tx: Connection, shop_id: int | None, since: datetime, until: datetime, limit: int
) -> Sequence[Row[Any]]:
    """Return the newest ``limit`` changes of the fleet and a shop that no work made, the oldest first."""
    values = {"shop_id": shop_id, "since": since, "until": until, "limit": limit}
    return tx.exec_driver_sql(_CHANGES, values).all()


def stream_rows(
    tx: Connection, shop_id: int | None, after: int = ALL_ROWS, until: int = 2**63 - 1
) -> Generator[list[RowTuple], None, None]:
    """Yield the rows with numbers above ``after`` up to ``until``, in order, ``CHUNK_ROWS`` at a time.

    Without limits: every stored row, with invalid numbers too. Rows are sent while others are hashed, and
    neither side has all rows in memory.
    """
    driver = tx.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - ``driver_url`` sets it
    statement = _STREAM[shop_id is None]
    values = {"shop_id": shop_id, "until": until, "limit": STATEMENT_ROWS}
    try:
        with driver.cursor() as cursor:
            read = STATEMENT_ROWS
            while read == STATEMENT_ROWS:
                read = 0
                rows = cursor.stream(statement, {**values, "first": after + 1}, binary=True, size=200)
                try:
                    while chunk := list(islice(rows, CHUNK_ROWS)):
                        read, after = read + len(chunk), chunk[-1][0]
                        yield chunk
                finally:
                    # An unfinished stream is cancelled, which fails the transaction.
                    for _ in rows:
                        pass
    except psycopg.OperationalError as fault:
        raise OperationalError(statement, None, fault, connection_invalidated=driver.broken) from fault


class StoredChain(ChainRows):
    def __init__(self, tx: Connection, shop_id: int | None) -> None:
        self._tx, self.shop_id = tx, shop_id

    def find_at(self, seq: int) -> ChainRow | None:
        return next(self._query(_AT, seq=seq), None)

    def find_unnumbered(self) -> ChainRow | None:
        """Return the first row with a number under 1, which is not valid."""
        return next(self._query(_UNNUMBERED), None)

    def find_after(self, prev_hash: str) -> Sequence[ChainRow]:
        """Return up to ten rows with this ``prev_hash``. Reads the whole chain: there is no index for it."""
        return list(self._query(_AFTER, prev_hash=prev_hash))

    def _query(self, statements: dict[bool, str], **values: Any) -> Iterator[ChainRow]:
        return (ChainRow(**row._mapping) for row in query_chain(self._tx, statements, self.shop_id, **values))
