"""The ingress application of one process: creates, starts and stops its parts."""

import asyncio
from typing import TYPE_CHECKING

import orjson
from flask import Flask, Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from services.core.db import make_app_engine
from services.core.log import configure_logging
from services.core.sentry import init_sentry
from services.core.settings import Settings, get_settings
from services.ingress.body_reader import RsgiProtocol
from services.ingress.group_commit import GroupCommit, WorkerNotifier
from services.ingress.health import health_blueprint
from services.ingress.metrics import metrics_blueprint
from services.ingress.page_stats import count_pages
from services.ingress.request_stats import RequestStats
from services.ingress.rsgi import Gateway
from services.ingress.secret_cache import SecretCache
from services.ingress.unsubscribe import unsubscribe_blueprint
from services.ingress.webhooks import WebhookEndpoint
from services.jobs.conditions import count_conditions
from services.ledger.health_check import HealthCheck

if TYPE_CHECKING:
    from granian.rsgi import Scope


class Ingress:
    """The RSGI application of one granian process."""

    def __init__(self, settings: Settings) -> None:
        configure_logging(settings, "ingress")
        init_sentry(settings, "ingress")
        engine = make_app_engine("shopfleet-ingress", settings)
        self.notifier = WorkerNotifier()
        self.secrets = SecretCache(engine)
        self.stats = RequestStats(engine)
        self.commits = GroupCommit(engine, self.notifier.notify_workers)
        self.webhooks = WebhookEndpoint(self.secrets, self.commits, self.stats)
        self._gateway = Gateway(self.webhooks, make_flask(self.stats), settings)

    def start(self) -> None:
        """Load the secrets and start the threads."""
        for part in (self.notifier, self.secrets, self.stats):
            part.start()

    async def close(self) -> None:
        """Commit, answer and dispatch the accepted events; then stop the threads."""
        await self.commits.close()
        self.notifier.close()
        self.secrets.stop()
        self.stats.close()

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start; granian calls it before it serves."""
        self.start()
        self._watch = loop.create_task(self._gateway.watch())

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop; granian calls it after it has served."""
        self._watch.cancel()
        loop.run_until_complete(self.close())

    async def __rsgi__(self, scope: "Scope", protocol: RsgiProtocol) -> None:
        await self._gateway.serve(scope, protocol)


def make_flask(stats: RequestStats | None = None) -> Flask:
    """Return the Flask application with the routes besides webhooks."""
    flask = Flask("services.ingress")
    count_pages(flask, stats)
    probe = HealthCheck(count_conditions)
    flask.register_blueprint(health_blueprint(probe))
    flask.register_blueprint(metrics_blueprint(probe))
    flask.register_blueprint(unsubscribe_blueprint())
    flask.register_error_handler(HTTPException, _describe_fault)
    return flask


def _describe_fault(fault: HTTPException) -> Response:
    """Return ``fault`` as JSON, such as ``{"error": "not_found"}``."""
    body = orjson.dumps({"error": fault.name.lower().replace(" ", "_")})
    response = Response(body, fault.code, mimetype="application/json")
    if isinstance(fault, MethodNotAllowed):
        response.allow.update(fault.valid_methods or ())
    return response


def load() -> Ingress:
    """Return the application of this process; granian calls it once in each worker."""
    return Ingress(get_settings())
