"""``DATABASE_URL``, tried before a process serves."""

import logging

from sqlalchemy.exc import DBAPIError

from services.core.db import make_app_engine
from services.core.errors import describe_server
from services.core.settings import Settings, get_settings

log = logging.getLogger(__name__)

_NEXT = "the process runs and connects when the database answers: check the server and DATABASE_URL"


def check_database_url(settings: Settings | None = None) -> str:
    """Return why the database cannot be reached, or an empty text.

    Raise ``SettingsInvalid`` if ``DATABASE_URL`` is a pooler that the settings do not fit.
    """
    engine = make_app_engine("shopfleet-start", settings)
    try:
        engine.connect().close()
    except DBAPIError as fault:
        return str(fault.orig)
    finally:
        engine.dispose()
    return ""


def check_database_at_start() -> None:
    """As ``check_database_url``; a database that cannot be reached is one warning in the log."""
    if fault := check_database_url():
        server = describe_server(get_settings().database_url)
        log.warning(
            "database_unreachable", extra={"fields": {"server": server, "error": fault, "next": _NEXT}}
        )
