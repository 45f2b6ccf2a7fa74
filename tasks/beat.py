"""Beat: of any number of processes one is the leader, which holds a lock in PostgreSQL.

The leader sends the messages of ``beat_schedule.SCHEDULE`` and inserts the runs of ``beat_schedule.JOBS``. If
the broker is unreachable, a run is late but not lost. A leader that sends nothing or does nothing for 20 s
loses the lock to another beat.

Celery's own beat has no leader, waits without limit for a broker, and never opens its connection again;
``FLUSHALL`` deletes RedBeat's lock.
"""

import logging
import signal
import time
from datetime import timedelta
from importlib.metadata import version
from types import FrameType
from typing import Any

from celery import platforms
from celery.apps.beat import Beat
from celery.beat import Scheduler, Service
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from services.core.broker import BrokerUnreachable
from services.core.clock import steady_now, utc_now
from services.core.db import get_engine, make_engine, transaction
from services.core.locks import LEADER_LOCK
from services.core.settings import get_settings
from services.jobs.store import record_jobs
from services.jobs.tick import (
    OVERDUE_CHECK_SECONDS,
    SILENCE_SECONDS,
    limit_silence,
    report_overdue_runs,
    tick,
)
from services.ledger.dispatch import get_sender, send_messages
from services.ledger.heartbeats import record_beat, record_release
from tasks.collectors import COLLECTORS, FOLLOWERS

HEARTBEAT_SECONDS = 5.0
JOBS_SECONDS = 5.0
STANDBY_SECONDS = 2.0
STOP_CHECK_SECONDS = 0.1

log = logging.getLogger(__name__)


class StoppableBeat(Beat):
    """Celery's beat, which also stops if a signal comes while it starts."""

    def install_sync_handler(self, service: Any) -> None:
        """Let SIGTERM and SIGINT end ``service``. Nothing is saved: the state is in the database."""

        def stop(_number: int, frame: FrameType | None) -> None:
            service._is_shutdown.set()
            if frame is None or frame.f_code is Service.start.__code__:  # it sleeps
                raise SystemExit
            # In an import or a callback Python may ignore an exception: so the next step ends first.
            signal.setitimer(signal.ITIMER_REAL, STOP_CHECK_SECONDS)

        platforms.signals.update(SIGTERM=stop, SIGINT=stop, SIGALRM=stop)


class LeaderScheduler(Scheduler):
    """A scheduler without a state file: its state is in the database."""

    producer = None
    """Not used: ``apply_entry`` sends with our own sender."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # The session lock needs a session of its own, which a pooler does not give.
        self._engine = make_engine(
            get_settings().database_direct_url, application="shopfleet-beat", pool_size=1
        )
        self._connection: Connection | None = None
        self._done_at = dict.fromkeys(("heartbeat", "jobs", "overdue"), 0.0)
        self._sent_at = 0.0
        self._is_refused = False
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """Read the entries of ``beat_schedule.SCHEDULE``; all are due at the first tick."""
        from beat_schedule import SCHEDULE

        self.update_from_dict(SCHEDULE)
        for entry in self.schedule.values():
            entry.last_run_at = steady_now() - timedelta(days=1)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send due messages if this beat is the leader; otherwise try again in 2 s to become it."""
        try:
            if self._is_leader():
                return self._lead(*args, **kwargs)
        except DBAPIError as fault:
            self._step_down(str(fault.orig).partition("\n")[0])
        # The leader may hang.
        if self._is_time("overdue", OVERDUE_CHECK_SECONDS):
            report_overdue_runs(get_engine(), COLLECTORS)
        return STANDBY_SECONDS

    def _lead(self, *args: Any, **kwargs: Any) -> float:
        if time.monotonic() - self._sent_at > SILENCE_SECONDS:
            self._step_down(f"the broker took no message for {SILENCE_SECONDS} s")
            return 2 * STANDBY_SECONDS  # a standby is faster
        if self._is_time("jobs", JOBS_SECONDS):
            send_messages(tick(get_engine(), utc_now(), COLLECTORS, FOLLOWERS))
        delay = float(super().tick(*args, **kwargs))
        if self._is_time("heartbeat", HEARTBEAT_SECONDS):
            with transaction() as tx:
                limit_silence(tx)
                record_beat(tx, utc_now(), is_refused=self._is_refused)
        return delay

    def apply_entry(self, entry: Any, producer: Any = None) -> None:  # noqa: ARG002 - Celery's signature
        """Send the message of ``entry``. If the broker refuses it, the next one replaces it."""
        queue, expires_seconds = entry.options["queue"], entry.options["expires"]
        expires_at = utc_now() + timedelta(seconds=expires_seconds)
        try:
            get_sender().send(queue, entry.task, entry.args, expires_at=expires_at)
        except BrokerUnreachable as fault:
            if not self._is_refused:
                log.warning("beat_send_failed", extra={"fields": {"error": str(fault)}})
            self._is_refused = True
            return
        if self._is_refused:
            log.info("beat_send_resumed")
        self._is_refused, self._sent_at = False, time.monotonic()

    def _is_time(self, name: str, seconds: float) -> bool:
        now = time.monotonic()
        if now - self._done_at[name] < seconds:
            return False
        self._done_at[name] = now
        return True

    def _is_leader(self) -> bool:
        """Return whether this beat holds or gets the leader's session lock, which ends with its holder."""
        if self._connection is None:
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            if not connection.scalar(text("select pg_try_advisory_lock(:lock)"), {"lock": LEADER_LOCK}):
                connection.close()
                return False
            log.info("beat_became_leader")
            self._connection, self._sent_at = connection, time.monotonic()
            # PostgreSQL ends the session of a leader that is silent, and with it the lock.
            connection.execute(text(f"set idle_session_timeout = '{SILENCE_SECONDS} s'"))
            self._record_jobs()
        self._connection.scalar(text("select 1"))
        return True

    def _step_down(self, why: str) -> None:
        """Close the connection without returning it to the pool, because it holds the lock."""
        log.warning("beat_not_leading", extra={"fields": {"reason": why}})
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def _record_jobs(self) -> None:
        from beat_schedule import JOBS

        with transaction() as tx:
            limit_silence(tx)
            record_jobs(tx, JOBS, utc_now())
            record_release(tx, get_settings().release or version("shopfleet"), utc_now())
