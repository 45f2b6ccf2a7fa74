"""``--incident``: what a command changes is on the timeline of the incident for which it is done."""

from typing import Unpack

import click
from sqlalchemy import Connection

from services.alerts.people import record_action
from services.audit.append import Author
from services.cli.params import INCIDENT

incident_option = click.option(
    "--incident", type=INCIDENT, help="Add it to the timeline of this incident, for which it is done."
)


def link_incident(tx: Connection, incident_id: int | None, text: str, **author: Unpack[Author]) -> None:
    """Add ``text``, what was done and why, to the timeline of the open incident, if one is given."""
    if incident_id is not None:
        why = author.get("reason", "")
        record_action(tx, incident_id, "action", f"{text}: {why}" if why else text, {}, **author)
