"""Fixtures of the command tests."""

import pytest
from sqlalchemy import Engine

from tests.cli.commands import ADD, run


@pytest.fixture
def harbour(engine: Engine) -> str:
    result = run("shops", "add", "harbour", *ADD, "--owner-email", "owner@harbour.example", "--as", "ada")
    assert result.exit_code == 0, result.output
    return "harbour"
