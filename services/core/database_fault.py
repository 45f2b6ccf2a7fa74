"""Why the database cannot be used, for people."""

import re

from psycopg.errors import InsufficientPrivilege, ReadOnlySqlTransaction, UndefinedColumn, UndefinedTable
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from services.core.db import is_connection_fault
from services.core.errors import ShopfleetError, describe_server
from services.core.log_redaction import redact_text
from services.core.server_fault import ServerFault, explain_timeout

MAKE_WRITABLE = (
    "if it is a standby, promote it or set DATABASE_URL to the primary; else run in psql: "
    "alter system reset default_transaction_read_only; select pg_reload_conf()"
)
_REFUSES = re.compile("authentication failed|no password supplied|no pg_hba.conf entry|does not exist")


class DatabaseReadOnly(ShopfleetError):
    """No row can be written, so webhooks get 503. The message begins so that it can follow a name."""


def check_writable(tx: Connection) -> None:
    """Raise ``DatabaseReadOnly`` with its cause if the database is a standby, or takes no change."""
    query = "select current_setting('transaction_read_only'), pg_is_in_recovery()"
    read_only, is_standby = tx.exec_driver_sql(query).one()
    if read_only == "on":
        cause = "a standby" if is_standby else "default_transaction_read_only is on"
        raise DatabaseReadOnly(f"is read-only ({cause}): webhooks get 503")


def explain_database_fault(error: SQLAlchemyError, url: str, seconds: float) -> ServerFault:
    """Return what is wrong with the database at ``url``; ``seconds``: the limit of connecting to it."""
    server = f"the database at {describe_server(url)}"
    if isinstance(error, PoolTimeout):
        return ServerFault(f"no free connection to {server}: `fleet doctor` shows why")
    orig = getattr(error, "orig", None) or error
    lines = str(orig).strip().splitlines()
    reason = redact_text(lines[0]) if lines else type(orig).__name__
    if isinstance(orig, UndefinedTable | UndefinedColumn):
        return ServerFault("the database has no tables yet, or older ones: run `fleet migrate`")
    if isinstance(orig, InsufficientPrivilege):
        return ServerFault(f"the database refuses this role: {reason}", "`fleet migrate` grants its rights")
    if isinstance(orig, ReadOnlySqlTransaction):
        return ServerFault(f"{server} is read-only: {reason}", MAKE_WRITABLE)
    if is_connection_fault(error):
        return _explain_connection(server, reason, url, seconds)
    return ServerFault(f"the database refused: {reason}")


def _explain_connection(server: str, reason: str, url: str, seconds: float) -> ServerFault:
    if _REFUSES.search(reason):
        return ServerFault(f"{server} refuses the connection: {reason}", "check DATABASE_URL")
    if late := explain_timeout(url, reason, seconds):
        return ServerFault(f"{server} {late.what}", late.remedy)
    return ServerFault(f"{server} is not reachable: {reason}")
