"""Rules for new code too: every topic, queue, beat entry and setting is registered and documented."""

import ast
import importlib
import re
import zoneinfo
from dataclasses import fields
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from services.core.settings import Settings
from services.fleet.process_list import WORKERS
from services.ledger.topics import QUEUES, TOPICS, HandlerMode
from services.providers.registry import PROVIDERS

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("environment")


def test_every_queue_has_a_worker_in_the_process_list() -> None:
    served = {queue for _, queues, _ in WORKERS for queue in queues.split(",")}
    assert served == set(QUEUES)


def test_every_queue_has_a_worker_in_the_compose_file() -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    served = {queue for queues in re.findall(r'"-Q", "([\w,]+)"', compose) for queue in queues.split(",")}
    assert served == set(QUEUES)


def test_every_topic_has_a_task_of_its_name_on_its_queue() -> None:
    from tasks.celery import TASK_MODULES, app
    from tasks.handlers import HANDLERS

    for module in TASK_MODULES:
        importlib.import_module(module)
    for name, topic in TOPICS.items():
        assert topic.queue in QUEUES
        assert name in app.tasks, f"no task is registered under {name}"
        assert app.tasks[name].queue == topic.queue
        assert app.tasks[name].soft_time_limit < app.tasks[name].time_limit
        assert callable(HANDLERS[name]) == (topic.mode is HandlerMode.TRANSACTIONAL), name
    assert set(HANDLERS) == set(TOPICS)


def test_every_task_module_is_included_in_the_app() -> None:
    from tasks.celery import TASK_MODULES

    plumbing = {"__init__", "__main__", "celery", "handlers", "beat", "flower", "consumer", "collectors"}
    plumbing |= {"sign_in_limiter"}
    modules = {f"tasks.{path.stem}" for path in (ROOT / "tasks").glob("*.py") if path.stem not in plumbing}
    assert modules == set(TASK_MODULES)


def test_the_table_of_handlers_holds_no_logic() -> None:
    tree = ast.parse((ROOT / "tasks" / "handlers.py").read_text())
    logic = (ast.Try, ast.If, ast.FunctionDef, ast.Lambda)
    assert not [node for node in ast.walk(tree) if isinstance(node, logic)]


def test_every_planned_topic_exists_and_every_ingest_is_planned() -> None:
    planned = {topic for provider in PROVIDERS for _, topic in provider.topics}
    assert planned <= set(TOPICS)
    assert {name for name in TOPICS if name.endswith("_ingest")} <= planned


def test_every_beat_entry_names_a_task_and_a_queue_that_exist_and_a_clock_that_is_not_set() -> None:
    from beat_schedule import SCHEDULE
    from services.core.clock import steady_now
    from tasks.celery import app

    app.loader.import_default_modules()
    for name, entry in SCHEDULE.items():
        assert entry["task"] in app.tasks, name
        assert entry["options"]["queue"] in QUEUES, name
        assert entry["schedule"].nowfun is steady_now, name
    assert {entry["args"][0] for name, entry in SCHEDULE.items() if name.startswith("canary-")} == set(QUEUES)


def test_every_job_names_a_topic_that_runs_it_and_a_schedule_that_can_be_read() -> None:
    from beat_schedule import JOBS
    from services.jobs.definition import FLEET_ZONE, SHOP_ZONE
    from services.jobs.handler import JobHandler
    from services.jobs.schedule import parse_schedule
    from tasks.handlers import HANDLERS

    for job in JOBS:
        assert isinstance(HANDLERS[job.topic], JobHandler), job.name
        assert parse_schedule(job.schedule) == job.schedule
        assert job.zone in (SHOP_ZONE, FLEET_ZONE) or ZoneInfo(job.zone)
        assert job.per_shop or job.zone != SHOP_ZONE, f"{job.name}: only a shop has a shop's zone"
        assert job.grace.total_seconds() >= 60, job.name
        assert job.title, job.name
        assert job.evidence, job.name
    assert len({job.name for job in JOBS}) == len(JOBS)


def test_every_job_is_in_the_docs() -> None:
    from beat_schedule import JOBS

    documented = (ROOT / "docs" / "jobs.md").read_text()
    assert [job.name for job in JOBS if f"`{job.name}`" not in documented] == []


def test_leases_outlast_their_renewal_and_limits_outlast_calls() -> None:
    for topic in TOPICS.values():
        assert topic.tries >= 2, topic.name
        assert topic.lease.total_seconds() <= 50, "the sweep must free the work of a dead worker within 60 s"


def test_every_setting_has_a_line_in_the_docs() -> None:
    documented = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", (ROOT / "docs" / "settings.md").read_text()))
    missing = {field.name.upper() for field in fields(Settings)} - documented
    assert not missing, f"docs/settings.md lacks {sorted(missing)}"


def test_every_topic_has_a_heading_in_the_runbook() -> None:
    headings = set(re.findall(r"^## (\w+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE))
    assert set(TOPICS) <= headings


def test_every_function_that_the_readme_names_exists() -> None:
    readme = (ROOT / "README.md").read_text()
    trace = readme.partition("## Follow one webhook")[2].partition("\n## ")[0]
    named = re.findall(r"`(services|tasks)([\w./]*?)\.py`: `(\w+)`", trace)
    assert len(named) >= 7
    for top, path, function in named:
        source = (ROOT / f"{top}{path}.py").read_text()
        assert re.search(rf"^\s*(?:def|class) {function}\b|^{function} = ", source, re.MULTILINE), (
            path,
            function,
        )


def test_only_the_database_module_commits() -> None:
    for path in [*(ROOT / "services").rglob("*.py"), *(ROOT / "tasks").rglob("*.py")]:
        if path.relative_to(ROOT) in {Path("services/core/db.py"), Path("services/schema/migrate.py")}:
            continue
        # A connection's own ``commit`` calls that of its base class.
        assert ".commit(" not in path.read_text().replace("super().commit(", ""), path


def test_zone_rules_come_with_the_project_and_not_with_the_machine() -> None:
    """British Columbia keeps one time since March 2026; a machine's own data may be older than that."""
    assert zoneinfo.TZPATH == ()
    november = datetime(2026, 11, 20, 12, tzinfo=ZoneInfo("America/Vancouver"))
    assert november.utcoffset() == timedelta(hours=-7)


def test_no_statement_turns_a_moment_into_a_local_day() -> None:
    """The zone data of the database may be older."""
    for path in (ROOT / "services").rglob("*.py"):
        found = re.findall(r"at time zone (\S+)", path.read_text(), re.IGNORECASE)
        assert {zone for zone in found if not zone.startswith("'UTC'")} == set(), path


def test_every_file_is_written_by_what_keeps_it_private_or_where_a_person_asked() -> None:
    """A mode that follows the umask leaves mails and secrets to every local user."""
    private = {"core/files.py", "fleet/embedded/state.py"}
    programs = {"fleet/embedded/binaries.py"}
    in_a_private_folder = {"closing/month_package.py"}
    named_by_a_person = {
        "cli/alerts.py",
        "cli/audit.py",
        "cli/labels.py",
        "cli/month_close.py",
        "cli/reports.py",
        "cli/mail/preview.py",
    }
    writes = re.compile(
        r"\.mkdir\(|write_text\(|write_bytes\(|\.touch\("
        r"|(?<!\.fd)open\((?:[\w. ]+, )?\"[wax][^\n]*(?<!open_private)\) as"
    )
    found = {
        str(path.relative_to(ROOT / "services"))
        for path in (ROOT / "services").rglob("*.py")
        if writes.search(path.read_text())
    }
    assert found == private | programs | in_a_private_folder | named_by_a_person


def test_no_url_of_a_file_is_put_together_from_text() -> None:
    """A folder may be named ``fl#e?t %41``: only ``Path.as_uri`` writes that as a URL."""
    for path in [*(ROOT / "services").rglob("*.py"), *(ROOT / "tasks").rglob("*.py")]:
        assert "file://{" not in path.read_text(), path


def test_nothing_is_ever_pickled() -> None:
    for path in [*(ROOT / "services").rglob("*.py"), *(ROOT / "tasks").rglob("*.py")]:
        assert not re.search(r"\bpickle\b(?!\.? ?[:.])", path.read_text().replace("No pickle", "")), path
