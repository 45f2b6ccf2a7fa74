"""The ingress application: the hot route in front, Flask for everything else."""

import atexit
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask

from services.core.db import make_engine
from services.core.log import configure_logging
from services.core.sentry import init_sentry
from services.core.settings import Settings, get_settings
from services.ingress.bells import Bells
from services.ingress.counts import Counts
from services.ingress.group_commit import GroupCommit
from services.ingress.health import health_blueprint
from services.ingress.keyring import Keyring
from services.ingress.metrics import metrics_blueprint
from services.ingress.routes import PREFIX
from services.ingress.webhooks import Webhooks
from services.ledger.probe import Probe

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Ingress:
    """The WSGI application of one process, with the threads that belong to it."""

    def __init__(self, settings: Settings) -> None:
        configure_logging(settings, os.environ.get("FLEET_PROCESS", "ingress"))
        init_sentry(settings, "ingress")
        engine = make_engine(settings.database_url, application="shopfleet-ingress")
        self.bells = Bells()
        self.keyring = Keyring(engine)
        self.counts = Counts(engine)
        self.commits = GroupCommit(engine, self.bells.ring)
        for part in (self.bells, self.keyring, self.counts, self.commits):
            part.start()
        self._webhooks = Webhooks(self.keyring, self.commits, self.counts)
        self._flask = make_flask()

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer one request."""
        if environ["PATH_INFO"].startswith(PREFIX):
            return self._webhooks(environ, start_response)
        return self._flask(environ, start_response)

    def close(self) -> None:
        """What was accepted is committed and told of; then the threads end."""
        self.commits.close()
        self.bells.close()
        self.keyring.stop()
        self.counts.close()


def make_flask() -> Flask:
    """Return the part that people and probes ask: health and metrics."""
    flask = Flask("services.ingress")
    probe = Probe()
    flask.register_blueprint(health_blueprint(probe))
    flask.register_blueprint(metrics_blueprint(probe))
    return flask


def load() -> Ingress:
    """Return the application of this process; granian calls it once in each worker.

    What was accepted is finished before the process ends.
    """
    app = Ingress(get_settings())
    atexit.register(app.close)
    return app
