"""``fleet mail``: the mails the fleet writes."""

import click

from services.cli.mail.accounts import connections
from services.cli.mail.outbox import forget, list_mails, resend, show
from services.cli.mail.preview import preview
from services.cli.mail.send_test import test
from services.cli.mail.transport import transport


@click.group()
def command() -> None:
    """Look at the mails the fleet writes, decide about those that are stuck, and set up how they leave.

    \b
    Examples: fleet mail list --status unknown
              fleet mail test ada@example.com
              fleet mail preview daily_anomalies --shop harbour
    """


for _one in (list_mails, show, resend, forget, preview, transport, test, connections):
    command.add_command(_one)
