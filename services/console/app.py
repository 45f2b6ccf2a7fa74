"""The console's application: pages for people, routes for machines."""

from collections.abc import Callable, Sequence
from typing import Any

from flask import Flask, render_template, request
from werkzeug.exceptions import NotFound
from werkzeug.routing import IntegerConverter, Map

from services.console.account import account_blueprint
from services.console.answers import has_cron_secret, json_error
from services.console.api_changes import add_api_changes
from services.console.api_people import add_api_people
from services.console.api_readings import add_api_readings
from services.console.api_views import add_api_rows
from services.console.audit import audit_blueprint
from services.console.audit_pages import audit_pages_blueprint
from services.console.auth import control_access
from services.console.bulk import bulk_blueprint
from services.console.cron import cron_blueprint
from services.console.details import details_blueprint
from services.console.event_edit import event_edit_blueprint
from services.console.formatting import add_helpers
from services.console.gate import gate_blueprint
from services.console.job_lines import JobsReader
from services.console.job_pages import jobs_blueprint
from services.console.letter_pages import letters_blueprint
from services.console.list_views import api_blueprint, lists_blueprint
from services.console.oidc import oidc_blueprint
from services.console.pages import pages_blueprint
from services.console.queue_pages import queues_blueprint
from services.console.queue_reading import QueueReader
from services.console.repeats import answer_repeats
from services.console.report_pages import reports_blueprint
from services.console.saved_filters import saved_filters_blueprint
from services.console.scan_reading import ScanReader
from services.console.shop_changes import shop_changes_blueprint
from services.console.shop_pages import shops_blueprint
from services.console.sign_in import init_sign_in, record_events
from services.console.time_connection import time_connection_blueprint
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.fields import LARGEST_ID
from services.core.settings import Settings, get_settings
from services.ingress.health import Details, health_blueprint
from services.ingress.page_stats import count_pages
from services.ingress.request_stats import RequestStats
from services.jobs.conditions import ConditionLine, count_conditions, list_conditions
from services.ledger.health_check import DEADLINE_SECONDS, CachedCheck, HealthCheck, result_within


def make_app(
    settings: Settings | None = None,
    probe: HealthCheck | None = None,
    stats: RequestStats | None = None,
    scan: ScanReader | None = None,
    queues: QueueReader | None = None,
    jobs: JobsReader | None = None,
) -> Flask:
    """Return the console application, which counts its requests in ``stats``.

    Routes that are in no table of ``auth`` are closed.
    """
    settings = settings or get_settings()
    probe = probe or HealthCheck(count_conditions)
    app = Flask(__name__)
    app.url_map.converters["int"] = IdConverter
    count_pages(app, stats)
    control_access(app, settings)
    answer_repeats(app)
    init_sign_in(app, settings)
    record_events(app)
    app.register_blueprint(oidc_blueprint(app, settings))
    app.register_blueprint(health_blueprint(probe, _conditions_reader(settings.cron_secrets)))
    app.register_blueprint(cron_blueprint())
    app.register_blueprint(audit_blueprint(settings))
    app.register_blueprint(audit_pages_blueprint())
    app.register_blueprint(gate_blueprint())
    app.register_blueprint(account_blueprint())
    app.register_blueprint(lists_blueprint())
    app.register_blueprint(details_blueprint())
    app.register_blueprint(saved_filters_blueprint())
    app.register_blueprint(event_edit_blueprint())
    app.register_blueprint(bulk_blueprint())
    api = api_blueprint()
    add_api_rows(api)
    queues, jobs = queues or QueueReader(probe), jobs or JobsReader()
    scan = scan or ScanReader()
    add_api_readings(api, scan, queues, jobs)
    add_api_people(api)
    add_api_changes(api)
    app.register_blueprint(api)
    app.register_blueprint(pages_blueprint(scan))
    app.register_blueprint(queues_blueprint(settings, queues))
    app.register_blueprint(shops_blueprint())
    app.register_blueprint(shop_changes_blueprint())
    app.register_blueprint(reports_blueprint())
    app.register_blueprint(letters_blueprint())
    app.register_blueprint(time_connection_blueprint())
    app.register_blueprint(jobs_blueprint(jobs))
    add_helpers(app, settings)
    app.register_error_handler(404, _show_missing)
    return app


def _show_missing(fault: NotFound) -> Any:
    """Answer 404: to a person as a page that leads back, to a program as JSON."""
    detail = "There is no such page." if fault.description == NotFound.description else fault.description
    if request.path.startswith("/api/"):
        return json_error(404, "not_found", detail or "")
    return render_template("error.html", title="Not found", detail=detail), 404


class IdConverter(IntegerConverter):
    """``<int:number>``: the number of a row, which PostgreSQL can compare; any other path is not found."""

    regex = "[0-9]{1,19}"

    def __init__(self, url_map: Map) -> None:
        super().__init__(url_map, min=1, max=LARGEST_ID)


def _conditions_reader(cron_secrets: tuple[str, ...]) -> Callable[[], Details | None]:
    """Return the reader of ``conditions`` for ``/health``, if a request has one of ``cron_secrets``.

    They list what needs a person, with shop, person and reason; null if they could not be read in time.
    """
    check = CachedCheck("conditions", _list_conditions)

    def start() -> Details | None:
        if not has_cron_secret(request.headers, cron_secrets):
            return None
        reading = check.start()

        def finish() -> dict[str, Any]:
            found = result_within(reading, DEADLINE_SECONDS)
            return {"conditions": found if found is None else [line._asdict() for line in found]}

        return finish

    return start


def _list_conditions() -> Sequence[ConditionLine]:
    with transaction() as tx:
        return list_conditions(tx, utc_now())
