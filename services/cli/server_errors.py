"""Errors of the database and of the broker, in one sentence that says what to do."""

import os

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from services.core.broker_fault import explain_broker_fault
from services.core.database_fault import explain_database_fault
from services.core.server_fault import ServerFault
from services.core.settings import EXPORTED, get_settings

IS_IT_UP = "Is the fleet up? `fleet doctor` shows more"
if EXPORTED in os.environ:
    IS_IT_UP += '. After a restart run eval "$(fleet env)" again: this shell has the settings of before'

_SECONDS = 2.0
"""The limit of connecting to either server."""


def describe_database_error(error: DBAPIError | PoolTimeout) -> str:
    """Return what went wrong with the database, and what to do."""
    return _join(explain_database_fault(error, get_settings().database_url, _SECONDS))


def describe_broker_error(fault: BaseException) -> str:
    """Return why the broker cannot be used, and what to do."""
    return _join(explain_broker_fault(fault, get_settings().broker_url, _SECONDS))


def _join(fault: ServerFault) -> str:
    remedy = fault.remedy or (IS_IT_UP if "is not reachable" in fault.what else "")
    return f"{fault.what}. {remedy[:1].upper()}{remedy[1:]}" if remedy else fault.what
