"""Settings of every database session."""

from sqlalchemy import Engine, text

from services.core.db import transaction


def test_server_ends_the_session_of_a_dead_client_within_30_seconds(engine: Engine) -> None:
    names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")
    with transaction(engine) as tx:
        idle, interval, count = (int(tx.scalar(text(f"show {name}"))) for name in names)

    assert 0 < idle + interval * count <= 30


def test_every_session_is_in_utc(engine: Engine) -> None:
    with transaction(engine) as tx:
        assert tx.scalar(text("show timezone")) == "UTC"
