"""Reading the chains as they are stored: streamed for the walk, looked up for a diagnosis."""

from collections.abc import Generator, Iterable, Sequence
from datetime import date, datetime
from itertools import islice
from typing import Any, Final

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from services.audit.rehash import Place, Row, RowTuple
from services.core.pg_arrays import int_array

AT_ONCE = 5000
"""Rows in memory at a time: a few MB."""

A_STATEMENT = 50_000
"""Rows of one statement: who stops reading early waits for the rest of it, a tenth of a second."""

ALL_ROWS = -(2**63) - 1
"""What comes before every number that the column can hold."""

# The year of to_char has no sign, so 2026 BC would read like 2026; of an infinite time it is null.
_AT_TEXT = """
case when at > 'epoch' and isfinite(at)
     then to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
     else 'before 1970 or infinite' end
"""
_COLUMNS = f"""
seq, {_AT_TEXT}, staff_label, action, request_id, work_id, mutations, prev_hash, hash
"""
# "is not distinct from" finds no index, so each question is there twice.
_OF_CHAIN: Final = {False: "shop_id = %(shop_id)s", True: "shop_id is null and %(shop_id)s::int is null"}


def per_chain(statement: str) -> dict[bool, str]:
    """Return ``statement`` for a shop's chain (False) and for the fleet's (True); it says OF_CHAIN.

    COLUMNS stands for the fields of ``Row``, AT_TEXT for ``at`` as the text that is hashed.
    """
    filled = statement.replace("COLUMNS", _COLUMNS).replace("AT_TEXT", _AT_TEXT)
    return {is_fleet: filled.replace("OF_CHAIN", words) for is_fleet, words in _OF_CHAIN.items()}


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
_HASHES = per_chain("""
select seq, hash from audit_events where OF_CHAIN and seq = any(%(seq)s::bigint[])
""")
_SINCE = per_chain("select min(seq) from audit_events where OF_CHAIN and at >= %(since)s")

_EVENTS_ON = """
select shop_id, (at at time zone 'UTC')::date, count(*), max(seq) from audit_events
 where at >= %(since)s and action = %(action)s group by 1, 2 order by 1, 2
"""

# One look into the index per chain, however long the chains are.
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


def hold_still(tx: Connection) -> None:
    """Everything that ``tx`` reads from here on is of one moment. Call it before anything else.

    Or rows archived meanwhile would look missing.
    """
    tx.exec_driver_sql("set transaction isolation level repeatable read, read only")


def find_chains(tx: Connection) -> list[int | None]:
    """Return the shops that have a chain, or had one; None is the fleet's own."""
    return list(tx.exec_driver_sql(_CHAINS).scalars())


def find_ends(tx: Connection, shop_id: int | None) -> tuple[int, Place] | None:
    """Return the number of the first stored row, and the head; None for a chain without rows.

    Rows numbered under 1 are no rows of the chain: ``StoredChain.find_unnumbered`` finds them.
    """
    row = tx.exec_driver_sql(_ENDS[shop_id is None], {"shop_id": shop_id}).first()
    return None if row is None else (row[0], Place(row[1], row[2]))


def find_first_since(tx: Connection, shop_id: int | None, since: datetime) -> int | None:
    """Return the number of the first row of ``since`` or later."""
    found: int | None = tx.exec_driver_sql(
        _SINCE[shop_id is None], {"shop_id": shop_id, "since": since}
    ).scalar()
    return found


def find_hashes(tx: Connection, shop_id: int | None, seqs: Iterable[int]) -> dict[int, str]:
    """Return the hashes of the stored rows among ``seqs``, by number."""
    values = {"shop_id": shop_id, "seq": int_array(sorted(set(seqs)))}
    return {row.seq: row.hash for row in tx.exec_driver_sql(_HASHES[shop_id is None], values)}


def count_events(tx: Connection, action: str, since: datetime) -> list[tuple[int | None, date, int, int]]:
    """Return how many events of ``action`` each chain has on each day (UTC), and the newest one's number."""
    found = tx.exec_driver_sql(_EVENTS_ON, {"action": action, "since": since})
    return [(shop_id, day, count, seq) for shop_id, day, count, seq in found]


def stream_rows(
    tx: Connection, shop_id: int | None, after: int = ALL_ROWS, until: int = 2**63 - 1
) -> Generator[list[RowTuple], None, None]:
    """Yield the rows numbered over ``after`` up to ``until``, in order, ``AT_ONCE`` at a time.

    Without limits: every row that is stored, whatever its number, so that what is beyond the head shows.
    The server sends while we hash, and neither side holds them all.
    """
    driver = tx.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - ``driver_url`` sees to it
    statement = _STREAM[shop_id is None]
    values = {"shop_id": shop_id, "until": until, "limit": A_STATEMENT}
    try:
        with driver.cursor() as cursor:
            read = A_STATEMENT
            while read == A_STATEMENT:
                read = 0
                rows = cursor.stream(statement, {**values, "first": after + 1}, binary=True, size=200)
                try:
                    while chunk := list(islice(rows, AT_ONCE)):
                        read, after = read + len(chunk), chunk[-1][0]
                        yield chunk
                finally:
                    # A stream that is left is cancelled, and the transaction fails with it.
                    for _ in rows:
                        pass
    except psycopg.OperationalError as fault:
        raise OperationalError(statement, None, fault, connection_invalidated=driver.broken) from fault


class StoredChain:
    """The chain of ``shop_id`` as the database has it; answers ``diagnose``."""

    def __init__(self, tx: Connection, shop_id: int | None) -> None:
        self._tx, self.shop_id = tx, shop_id

    def find_at(self, seq: int) -> Row | None:
        """Return the row numbered ``seq``."""
        found = self._ask(_AT, {"seq": seq})
        return found[0] if found else None

    def find_unnumbered(self) -> Row | None:
        """Return the first row that has a number under 1, which no row of a chain has."""
        found = self._ask(_UNNUMBERED, {})
        return found[0] if found else None

    def find_after(self, prev_hash: str) -> Sequence[Row]:
        """Return rows that say they follow ``prev_hash``. Reads the whole chain: there is no index for it."""
        return self._ask(_AFTER, {"prev_hash": prev_hash})

    def _ask(self, statements: dict[bool, str], values: dict[str, Any]) -> list[Row]:
        is_fleet = self.shop_id is None
        rows = self._tx.exec_driver_sql(statements[is_fleet], {"shop_id": self.shop_id, **values})
        return [Row(*row) for row in rows]
