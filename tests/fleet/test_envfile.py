"""The environment file that connects other tools to a fleet."""

import stat
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from services.fleet.envfile import (
    SECRET_NAMES,
    ensure_secrets,
    read_effective,
    read_env,
    record_running,
    record_stopped,
)


def test_secrets_are_made_once_and_private(tmp_path: Path) -> None:
    first = ensure_secrets(tmp_path)

    assert ensure_secrets(tmp_path) == first
    assert first.keys() == set(SECRET_NAMES)
    assert len(first["SECRET_KEY"]) >= 32
    assert first["FLOWER_BASIC_AUTH"].startswith("fleet:")
    assert stat.S_IMODE((tmp_path / "env").stat().st_mode) == 0o600


def test_stopped_fleet_is_not_reported_as_running(tmp_path: Path) -> None:
    record_running(tmp_path, {"DATABASE_URL": "postgresql://x", "INGRESS_PORT": "8000"})
    assert read_env(tmp_path)["INGRESS_PORT"] == "8000"

    record_stopped(tmp_path)

    assert read_env(tmp_path).keys() == set(SECRET_NAMES)


def test_ports_of_a_running_fleet_and_given_secrets_take_precedence(tmp_path: Path) -> None:
    record_running(tmp_path, {"INGRESS_PORT": "41000"})
    own_secret = "mine-" * 8
    (tmp_path / ".env").write_text(f"INGRESS_PORT=8000\nCRON_SECRET={own_secret}\nLOG_LEVEL=debug\n")

    effective = read_effective(tmp_path, {"LOG_LEVEL": "info"}, tmp_path)

    assert effective["INGRESS_PORT"] == "41000"
    assert effective["CRON_SECRET"] == own_secret
    assert effective["LOG_LEVEL"] == "info"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00\r", exclude_categories=["Cs"])))
def test_any_value_is_read_as_it_was_written(value: str) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        record_running(Path(folder), {"FLEET_HOME": value})

        assert read_env(Path(folder))["FLEET_HOME"] == value
