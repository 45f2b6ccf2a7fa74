"""The engine of a command about incidents: for a broken audit chain, that of the owner of the tables."""

from collections.abc import Collection

from sqlalchemy import Engine

from services.alerts.incidents import get_incident
from services.alerts.recorded_rules import AUDIT_FAILED
from services.core.db import get_engine, make_engine, transaction
from services.core.settings import get_settings


def find_engine(incident_ids: Collection[int]) -> Engine:
    """Return the owner's engine if one of the incidents is a broken chain, else that of the application.

    The owner's password is in ``MIGRATE_DATABASE_URL``; without it this is the application's role, which the
    database refuses. Raises ``InputInvalid`` for an unknown id.
    """
    with transaction() as tx:
        is_chain = any(get_incident(tx, one).rule == AUDIT_FAILED for one in incident_ids)
    if not is_chain:
        return get_engine()
    return owner_engine()


def owner_engine() -> Engine:
    """Return the engine of the role that owns the tables, from ``MIGRATE_DATABASE_URL``."""
    return make_engine(get_settings().migrate_database_url, application="shopfleet-owner", pool_size=1)
