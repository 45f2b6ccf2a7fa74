"""Refuses a second fleet on one database: ``python -m services.fleet.other_fleet`` exits 1 with the reason.

A program of its own, because the database's driver would stay in the supervisor's memory.
"""

import os
import sys

import psycopg

from services.core.errors import describe_server
from services.core.locks import LEADER_LOCK

_LEADER = """
select 1 from pg_locks
 where locktype = 'advisory' and granted and classid = %(high)s and objid = %(low)s
   and database = (select oid from pg_database where datname = current_database())
"""


def main() -> int:
    """Return 1 if the beat of a running fleet leads on the database of the settings, else 0."""
    url = os.environ.get("DATABASE_DIRECT_URL") or os.environ["DATABASE_URL"]
    halves = {"high": LEADER_LOCK >> 32, "low": LEADER_LOCK & 0xFFFFFFFF}
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            is_led = connection.execute(_LEADER, halves).fetchone() is not None
    except psycopg.OperationalError:
        return 0  # the migrations say why
    if not is_led:
        return 0
    print(
        f"another fleet runs on the database at {describe_server(url)}, with another broker: its beat leads. "
        "Stop it, or set BROKER_URL and SECRET_KEY to its values to add processes to it (docs/production.md)",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
