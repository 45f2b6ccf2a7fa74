"""The demo keeps to its own folder and its own settings."""

import os
from pathlib import Path

import pytest

from services.core.settings import Settings, get_settings
from services.demo.directory import MARK, clear_home, isolated_environment, use_fleet_settings
from services.fleet.embedded.state import HomeLock
from services.fleet.errors import AlreadyRunning, FleetError


def test_folder_that_holds_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(FleetError, match="contains files that are not a demo's"):
        clear_home(tmp_path)

    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_folder_of_an_earlier_demo_is_emptied(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    clear_home(home)
    (home / "mail").mkdir()
    (home / "env").write_text("SECRET_KEY='x'")

    clear_home(home)

    assert {entry.name for entry in home.iterdir()} <= {"lock", MARK, "logs"}


def test_folder_of_a_demo_that_runs_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    clear_home(home)
    lock = HomeLock(home)

    with pytest.raises(AlreadyRunning):
        clear_home(home)
    lock.release()


def test_users_settings_are_hidden_during_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://real/fleet")
    monkeypatch.setenv("SENTRY_DSN", "https://key@sentry.example/1")
    monkeypatch.setenv("INGRESS_PORT", "8123")
    here = Path.cwd()

    with isolated_environment(tmp_path):
        assert not {"DATABASE_URL", "SENTRY_DSN"} & os.environ.keys()
        assert os.environ["INGRESS_PORT"] == "8123"
        assert Path.cwd() == tmp_path.resolve()

    assert os.environ["DATABASE_URL"] == "postgresql://real/fleet"
    assert Path.cwd() == here


def test_settings_of_a_fleet_end_with_their_block_also_when_it_fails(settings: Settings) -> None:
    with pytest.raises(ValueError, match="fails"), use_fleet_settings({"DATABASE_URL": "postgresql://other"}):
        assert get_settings().database_url == "postgresql://other"
        raise ValueError("the block fails")

    assert get_settings() == settings
