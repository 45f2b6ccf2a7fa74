"""``fleet mail connections``: who takes our credentials, and what to do where one does not."""

from collections.abc import Sequence

import click

from services.cli.base import json_option, report_errors
from services.cli.output import print_json, print_table, to_document
from services.core.db import transaction
from services.mail.connection_lines import ConnectionLine, find_lines

COLUMNS = ("shop", "provider", "state", "since", "code", "what is said", "what to do")


@click.command("connections")
@json_option
@report_errors
def connections(as_json: bool) -> None:
    """List every connection that was ever used: does it take our credentials, and since when.

    A connection turns broken at the first refusal, and ok with the next call or mail that goes through.

    \b
    Example: fleet mail connections
    """
    with transaction() as tx:
        lines = find_lines(tx)
    if as_json:
        print_json([to_document(line) for line in lines])
    else:
        print_lines("", lines, "No connection was used yet: fleet mail test ADDRESS uses one.")


def print_lines(title: str, lines: Sequence[ConnectionLine], empty: str) -> None:
    """Print ``lines`` as a table, or ``empty``."""
    print_table(title, COLUMNS, [line.cells for line in lines], empty)
