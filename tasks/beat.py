"""Beat: of any number of processes one is the leader, which holds a lock in PostgreSQL.

The leader sends the messages of ``beat_schedule.SCHEDULE`` and inserts the runs of ``beat_schedule.JOBS``. If
the broker is unreachable, a run is late but not lost. Celery's own beat has no leader, and ``FLUSHALL``
deletes RedBeat's lock.
"""

import logging
import time
from datetime import timedelta
from typing import Any

from celery.beat import Scheduler
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from services.core.clock import utc_now
from services.core.db import get_engine, transaction
from services.jobs.store import record_jobs
from services.jobs.tick import OVERDUE_CHECK_SECONDS, report_overdue_runs, tick
from services.ledger.dispatch import send_messages
from services.ledger.sweep import record_heartbeat

LEADER_LOCK = 0x5F1EE8
HEARTBEAT_SECONDS = 5.0
JOBS_SECONDS = 5.0

log = logging.getLogger(__name__)


class LeaderScheduler(Scheduler):
    """A scheduler without a state file: its state is in the database."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._connection: Connection | None = None
        self._done_at = dict.fromkeys(("heartbeat", "jobs", "overdue"), 0.0)
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """Read the entries of ``beat_schedule.SCHEDULE``; all are due at the first tick."""
        from beat_schedule import SCHEDULE

        self.update_from_dict(SCHEDULE)
        for entry in self.schedule.values():
            entry.last_run_at = utc_now() - timedelta(days=1)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send due messages if this beat is the leader; otherwise try again in 2 s to become it."""
        if not self._is_leader():
            # The leader may hang.
            if self._is_time("overdue", OVERDUE_CHECK_SECONDS):
                report_overdue_runs(get_engine())
            return 2.0
        if self._is_time("heartbeat", HEARTBEAT_SECONDS):
            with transaction() as tx:
                record_heartbeat(tx, "beat", utc_now())
        if self._is_time("jobs", JOBS_SECONDS):
            send_messages(tick(get_engine(), utc_now()))
        return float(super().tick(*args, **kwargs))

    def _is_time(self, name: str, seconds: float) -> bool:
        now = time.monotonic()
        if now - self._done_at[name] < seconds:
            return False
        self._done_at[name] = now
        return True

    def _is_leader(self) -> bool:
        """Return whether this beat holds or gets the leader's session lock, which ends with its holder."""
        try:
            if self._connection is None:
                connection = get_engine().connect().execution_options(isolation_level="AUTOCOMMIT")
                if not connection.scalar(text("select pg_try_advisory_lock(:lock)"), {"lock": LEADER_LOCK}):
                    connection.close()
                    return False
                log.info("beat_became_leader")
                self._connection = connection
                self._record_jobs()
            self._connection.scalar(text("select 1"))
        except DBAPIError as fault:
            self._step_down()
            error = str(fault.orig).partition("\n")[0]
            log.warning("beat_leader_check_failed", extra={"fields": {"error": error}})
            return False
        return True

    def _step_down(self) -> None:
        """Close the connection without returning it to the pool, because it holds the lock."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def _record_jobs(self) -> None:
        from beat_schedule import JOBS

        with transaction() as tx:
            record_jobs(tx, JOBS, utc_now())
