"""Plans of statements: what PostgreSQL would do for any values, without executing them."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError

from services.core.db import rolled_back
from services.ledger.tables import statement_texts

_HAS_PLAN = re.compile(
    r"\s*(?:/\*.*?\*/\s*)*(?:select|with|insert|update|delete|merge|values)\b", re.IGNORECASE
)
_PARAMETER = re.compile(r"\$(\d+)\b")
_NAME = "shopfleet_explained"

_GENERIC = "set local plan_cache_mode = force_generic_plan"
"""``explain (generic_plan)`` is shorter, but needs PostgreSQL 16."""
# The rollback removes no prepared statement; psycopg may have removed it.
_DEALLOCATE = f"""
do $$ begin
  if exists (select from pg_prepared_statements where name = '{_NAME}') then
    execute 'deallocate {_NAME}';
  end if;
end $$
"""


class StatementPlan(NamedTuple):
    """The text of ``statement`` and its plan, or why there is no plan. Neither contains values."""

    statement: str
    text: str
    plan: str


def explain_statements(tx: Connection, names: Iterable[str]) -> list[StatementPlan]:
    """Return the generic plan of each statement, in the order of ``names``. Nothing is executed."""
    names = list(names)
    known = select(statement_texts).where(statement_texts.c.statement.in_(names))
    texts = {row.statement: row.text for row in tx.execute(known)}
    return [StatementPlan(name, texts.get(name, ""), _explain(tx, texts.get(name, ""))) for name in names]


def _explain(tx: Connection, text: str) -> str:
    if not text:
        return "no plan: its text is not stored"
    if not _HAS_PLAN.match(text):
        return f"no plan: PostgreSQL has none for {text.split(maxsplit=1)[0].lower()}"
    values = ", ".join(["null"] * max(map(int, _PARAMETER.findall(text)), default=0))
    try:
        with rolled_back(tx):
            tx.exec_driver_sql(f"prepare {_NAME} as {text.replace('%', '%%')}")
            tx.exec_driver_sql(_GENERIC)
            lines = tx.exec_driver_sql(f"explain execute {_NAME}{f'({values})' if values else ''}")
            return "\n".join(lines.scalars())
    except DBAPIError as fault:
        return f"no plan: {str(fault.orig).partition(chr(10))[0]}"
    finally:
        tx.exec_driver_sql(_DEALLOCATE)
