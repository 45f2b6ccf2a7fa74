"""Runs ``fleet`` commands in this process."""

from io import BytesIO

from click.testing import CliRunner, Result

from services.cli.main import main

ADD = ("--name", "Harbour", "--timezone", "America/Los_Angeles", "--currency", "CAD")
SECRET = "shpss_" + "a1b2" * 8


class Typed(BytesIO):
    """What a person types on a terminal."""

    def __init__(self, text: str) -> None:
        super().__init__(text.encode())

    def isatty(self) -> bool:
        return True


def run(*arguments: str, answer: str | Typed | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=answer)
