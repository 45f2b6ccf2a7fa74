"""A worker or beat that gets a signal while it starts ends without an error."""

import inspect
import signal
from types import SimpleNamespace
from typing import Any

import pytest
from celery import platforms
from celery.beat import Service
from celery.exceptions import WorkerTerminate
from celery.worker import state

from tasks.beat import STOP_CHECK_SECONDS, StoppableBeat
from tasks.celery import app
from tasks.consumer import Consumer


def test_a_worker_whose_pool_is_gone_when_it_is_ready_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "should_terminate", 0)

    with pytest.raises(WorkerTerminate):
        Consumer.on_ready(SimpleNamespace())  # type: ignore[arg-type]


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    installed: dict[str, Any] = {}
    monkeypatch.setattr(platforms.signals, "update", lambda **given: installed.update(given))
    return installed


@pytest.mark.usefixtures("settings")
def test_beat_ends_its_step_before_it_stops_and_its_sleep_at_once(handlers: dict[str, Any]) -> None:
    service = Service(app)
    StoppableBeat(app=app, quiet=True).install_sync_handler(service)
    try:
        handlers["SIGTERM"](signal.SIGTERM, inspect.currentframe())
        assert service._is_shutdown.is_set()
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= STOP_CHECK_SECONDS
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert {*handlers} == {"SIGTERM", "SIGINT", "SIGALRM"}
    with pytest.raises(SystemExit):
        handlers["SIGALRM"](signal.SIGALRM, SimpleNamespace(f_code=Service.start.__code__))
