"""Errors of the database and of the broker, in one sentence that says what to do."""

import os
import re

from psycopg.errors import InsufficientPrivilege, UndefinedColumn, UndefinedTable
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from services.core.broker_fault import describe_broker_fault
from services.core.db import is_connection_fault
from services.core.errors import describe_server
from services.core.settings import EXPORTED, get_settings

IS_IT_UP = "Is the fleet up? `fleet doctor` shows more"
if EXPORTED in os.environ:
    IS_IT_UP += '. After a restart run eval "$(fleet env)" again: this shell has the settings of before'

_DATABASE_REFUSES = re.compile(
    "authentication failed|no password supplied|no pg_hba.conf entry|does not exist"
)
_BROKER_REFUSES = re.compile(
    "there is no file|AUTH|uthentication|username-password|invalid password|REFUSED|Login was refused|"
    "NOPERM|not allowed|NOT_ALLOWED|out of range|certificate"
)


def describe_database_error(error: DBAPIError | PoolTimeout) -> str:
    """Return what went wrong with the database, and what to do."""
    server = describe_server(get_settings().database_url)
    if isinstance(error, PoolTimeout):
        return f"no free connection to the database at {server}: `fleet doctor` shows why"
    lines = str(error.orig).strip().splitlines()
    reason = lines[0] if lines else type(error.orig).__name__
    if isinstance(error.orig, UndefinedTable | UndefinedColumn):
        return "the database has no tables yet, or older ones: run `fleet migrate`"
    if isinstance(error.orig, InsufficientPrivilege):
        return f"the database refuses this role: {reason}. `fleet migrate` grants its rights"
    if is_connection_fault(error) and _DATABASE_REFUSES.search(reason):
        return f"the database at {server} refuses the connection: {reason}. Check DATABASE_URL"
    if is_connection_fault(error):
        return f"the database at {server} is not reachable: {reason}. {IS_IT_UP}"
    return f"the database refused: {reason}"


def describe_broker_error(fault: BaseException) -> str:
    """Return why the broker cannot be used, and what to do."""
    url = get_settings().broker_url
    server, reason = describe_server(url), describe_broker_fault(fault, url)
    if _BROKER_REFUSES.search(reason):
        return f"the broker at {server} refuses the connection: {reason}. Check BROKER_URL"
    return f"the broker at {server} is not reachable: {reason}. {IS_IT_UP}"
