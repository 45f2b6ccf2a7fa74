"""The ``fleet`` command itself."""

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from services.cli.main import FleetGroup, main
from services.core.errors import ShopfleetError

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_every_command_has_help_with_an_example() -> None:
    context = click.Context(main)
    own = [main.get_command(context, name) for name in ("up", "env", "doctor", "migrate")]

    assert all(command and command.help and "Example:" in command.help for command in own)


def test_every_entry_point_is_listed_and_loads() -> None:
    context = click.Context(main)
    declared = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["entry-points"]["fleet.commands"]

    assert set(main.list_commands(context)) == set(declared)
    assert all(main.get_command(context, name) for name in declared)


def test_missing_entry_points_say_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.cli.main.entry_points", lambda group: ())
    group = FleetGroup("fleet")

    result = CliRunner().invoke(group, ["env"])

    assert result.exit_code == 1
    assert "run `make setup`" in result.output


@pytest.mark.parametrize("value", ["services.cli.moved:command", "services.cli.main:moved"])
def test_an_entry_point_of_an_older_installation_says_what_to_run(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    found = (EntryPoint("moved", value, "fleet.commands"), EntryPoint("env", "services.cli.servers:env", ""))
    monkeypatch.setattr("services.cli.main.entry_points", lambda group: found)
    group = FleetGroup("fleet")

    for arguments in (["moved"], ["--help"]):
        result = CliRunner().invoke(group, arguments)
        assert result.exit_code == 1
        assert "moved cannot be loaded" in result.output and "run `make setup`" in result.output
    assert CliRunner().invoke(group, ["env", "--help"]).exit_code == 0


def test_old_names_work_and_are_not_listed() -> None:
    listed = CliRunner().invoke(main, ["--help"]).output

    assert "backfill" in listed
    assert "heal " not in listed
    for command in (("heal", "run"), ("heal", "marks"), ("heal", "subscriptions")):
        assert CliRunner().invoke(main, [*command, "--help"]).exit_code == 0


def test_wrong_usage_exits_with_2() -> None:
    assert CliRunner().invoke(main, ["up", "--sideways"]).exit_code == 2
    assert CliRunner().invoke(main, ["dance"]).exit_code == 2


def test_error_that_a_person_can_fix_exits_1_with_its_message() -> None:
    @click.group(cls=FleetGroup)
    def group() -> None: ...

    @group.command()
    def fail() -> None:
        raise ShopfleetError("the tap is closed: open it")

    result = CliRunner().invoke(group, ["fail"])

    assert result.exit_code == 1
    assert result.output == "Error: the tap is closed: open it\n"


def test_env_without_a_fleet_names_the_searched_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_HOME", str(tmp_path / "none"))

    result = CliRunner().invoke(main, ["env"])

    assert result.exit_code == 1
    assert f"no fleet runs on {(tmp_path / 'none').resolve()}" in result.output


def test_env_of_a_fleet_that_is_still_starting_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.fleet.embedded.state import HomeLock
    from services.fleet.envfile import ensure_secrets

    monkeypatch.setenv("FLEET_HOME", str(tmp_path))
    ensure_secrets(tmp_path)
    lock = HomeLock(tmp_path)

    result = CliRunner().invoke(main, ["env"])
    lock.release()

    assert result.exit_code == 1
    assert "is still starting" in result.output
