"""Every session tells the server how soon a silent client is a dead one."""

from sqlalchemy import Engine, text

from services.core.db import transaction


def test_the_server_lets_go_of_a_machine_that_lost_its_power_within_half_a_minute(engine: Engine) -> None:
    names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")
    with transaction(engine) as tx:
        idle, interval, count = (int(tx.scalar(text(f"show {name}"))) for name in names)

    assert 0 < idle + interval * count <= 30


def test_every_session_is_in_utc(engine: Engine) -> None:
    with transaction(engine) as tx:
        assert tx.scalar(text("show timezone")) == "UTC"
