"""An incident for which commands act, and what its timeline then has."""

from sqlalchemy import Engine

from services.alerts.incidents import Incident, record_incidents
from services.alerts.people import list_entries
from services.core.clock import utc_now
from services.core.db import transaction

LINK = ("--incident", "1", "--as", "ada")


def open_incident(engine: Engine) -> None:
    """Open the first incident: its id is 1."""
    with transaction(engine) as tx:
        record_incidents(tx, [Incident(None, "job_failed:x", "d", "P2", "bad")], utc_now())


def list_actions(engine: Engine) -> list[tuple[str, str]]:
    """Return who acted and what was done, the oldest first."""
    with transaction(engine) as tx:
        return [(one.by, one.text) for one in list_entries(tx, 1) if one.kind == "action"]
