"""``fleet incidents postmortem``: the draft of a postmortem from the record."""

import click

from services.alerts.postmortem import format_postmortem, read_record
from services.cli.base import ReportingCommand, json_option
from services.cli.output import print_json, to_document
from services.cli.params import INCIDENT
from services.core.clock import utc_now
from services.core.db import transaction


@click.command("postmortem", cls=ReportingCommand)
@click.argument("incident_id", type=INCIDENT)
@json_option
def postmortem(incident_id: int, as_json: bool) -> None:
    """Write the draft of a postmortem in Markdown, from what is recorded.

    It has the figures, what changed in the day before, deploys, the timeline with the actions of people, and
    questions for you to answer.

    \b
    Example: fleet incidents postmortem 12 > incident-12.md
    """
    with transaction() as tx:
        record = read_record(tx, incident_id, utc_now())
    draft = format_postmortem(record)
    if as_json:
        parts = {"before": record.before, "actions": record.actions, "timeline": record.entries}
        lists = {name: [to_document(one) for one in rows] for name, rows in parts.items()}
        print_json({"incident": incident_id, "state": record.state, **lists, "markdown": draft})
    else:
        click.echo(draft, nl=False)
