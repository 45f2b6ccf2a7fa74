"""The Celery app and its settings."""

import gc
import os
import sys
import warnings
from functools import cached_property
from typing import Any

import click
from celery import Celery
from celery.exceptions import SecurityWarning
from celery.signals import beat_init, setup_logging, worker_init, worker_process_init

from services.core.broker import is_redis, kombu_url, make_queue, transport_options
from services.core.database_url import check_database_at_start
from services.core.db import drop_engine
from services.core.errors import SettingsInvalid
from services.core.log import configure_logging
from services.core.sentry import init_sentry
from services.core.settings import Settings, get_settings
from services.ledger.topics import QUEUES, TOPICS
from tasks.flower import guard_flower

# Celery warns because of pickle: no process here accepts it. fleet doctor names the user.
warnings.filterwarnings("ignore", "You're running the worker with superuser privileges", SecurityWarning)

TASK_MODULES = ("tasks.runner", "tasks.ops", "tasks.log_level")


class ShopfleetApp(Celery):
    """An app that reads the settings when ``conf`` is first used: a help text needs none."""

    @cached_property
    def Beat(self) -> Any:  # noqa: N802 - Celery's name
        """The beat that stops also while it starts."""
        from tasks.beat import StoppableBeat

        return self.subclass_with_self(StoppableBeat)

    # A method, because Celery only logs the errors of a signal's receivers.
    def on_configure(self) -> None:  # type: ignore[override]
        """Read the settings; in a command their faults are its error, without a traceback."""
        try:
            settings = get_settings()
            _refuse_other_broker(settings.broker_url)
        except SettingsInvalid as fault:
            if click.get_current_context(silent=True):
                raise click.ClickException(str(fault)) from fault
            raise
        self.config_from_object(_make_config(settings))


def _refuse_other_broker(url: str) -> None:
    """Remove the variable into which ``celery`` puts BROKER_URL or its option -b: Celery would prefer it."""
    given = os.environ.pop("CELERY_BROKER_URL", "").strip()
    if given and given != url:
        raise SettingsInvalid(
            "-b (or CELERY_BROKER_URL) names another broker than BROKER_URL, which every process and command "
            "reads: set BROKER_URL instead"
        )


def _make_config(settings: Settings) -> dict[str, Any]:
    return dict(  # noqa: C408 - names as in Celery's documentation
        broker_url=kombu_url(settings.broker_url),
        # No pickle: write access to the broker must not allow code execution.
        task_serializer="json",
        accept_content=["json"],
        event_serializer="json",
        # Results are in the ledger.
        result_backend=None,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        # A mistyped queue raises an error instead of creating a queue without a worker.
        task_default_queue="ops",
        task_create_missing_queues=False,
        task_queues=[make_queue(name, settings.broker_url) for name in QUEUES],
        task_routes={name: {"queue": topic.queue} for name, topic in TOPICS.items()},
        # Workers wait for an unreachable broker without limit; publishers do not wait.
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,  # a quorum queue of a killed node has no leader for a moment
        broker_connection_timeout=4,
        broker_pool_acquire_timeout=5,
        task_publish_retry=False,
        broker_transport_options=transport_options(settings.broker_url),
        # Late acks return a message that a soft shutdown interrupts. Other redelivery is off: leases and the
        # sweep recover the work of a dead worker, and claims make a second copy of a message harmless.
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_disable_prefetch=is_redis(settings.broker_url),  # RabbitMQ: late acks and the multiplier do it
        worker_prefetch_multiplier=1,
        worker_consumer="tasks.consumer:Consumer",
        worker_max_tasks_per_child=5000,
        worker_max_memory_per_child=400_000,
        # Celery takes all of it while a task runs, and a second more for its pool.
        worker_soft_shutdown_timeout=4,
        worker_enable_soft_shutdown_on_idle=False,
        # Flower turns events on while it runs.
        worker_send_task_events=False,
        task_send_sent_event=False,
        timezone="UTC",
        enable_utc=True,
        beat_scheduler="tasks.beat:LeaderScheduler",
        beat_max_loop_interval=2,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )


app = ShopfleetApp("shopfleet", include=list(TASK_MODULES))
guard_flower()
if "celery.bin.celery" in sys.modules:
    # Imported here, because the processes of a fleet do not load Celery's commands.
    from tasks.commands.own_commands import guard_commands

    guard_commands(app)


@setup_logging.connect
def _setup_logging(**_: Any) -> None:
    configure_logging(get_settings(), process_name())


@worker_init.connect
@beat_init.connect
def _report_errors(**_: Any) -> None:
    _setup_logging()  # a worker sends this signal before the one of its logs
    try:
        check_database_at_start()
    except SettingsInvalid as fault:
        raise SystemExit(str(fault)) from None  # Celery logs any other exception of a signal and starts
    init_sentry(get_settings(), process_name())
    # Children share these memory pages as long as the collector does not write to them.
    gc.collect()
    gc.freeze()
    # A batch creates tens of thousands of objects and no cycles; 70 collections per batch cost 2% of the
    # time.
    gc.set_threshold(50_000, 20, 20)


@beat_init.connect
def _time_statements(**_: Any) -> None:
    from services.ledger.statement_stats import start_jobs_stats

    start_jobs_stats()


@worker_process_init.connect
def _after_fork(**_: Any) -> None:
    """Drop the parent's connections, because children that share one would mix up its responses."""
    from services.ledger.dispatch import reset_sender
    from services.ledger.statement_stats import start_jobs_stats

    drop_engine()
    reset_sender()
    init_sentry(get_settings(), process_name())
    start_jobs_stats()


def process_name() -> str:
    """Return this process's name in logs and in Sentry."""
    return os.environ.get("FLEET_PROCESS") or ("beat" if "beat" in sys.argv[1:] else "worker")
