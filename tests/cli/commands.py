"""Runs ``fleet`` commands in this process."""

from click.testing import CliRunner, Result

from services.cli.main import main

ADD = ("--name", "Harbour", "--timezone", "America/Los_Angeles", "--currency", "CAD")
SECRET = "shpss_" + "a1b2" * 8


def run(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=answer)
