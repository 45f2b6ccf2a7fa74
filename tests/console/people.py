"""Signed-in browsers for tests of pages."""

import base64
import hmac
import struct
from collections.abc import Mapping
from time import time

from flask.testing import FlaskClient
from sqlalchemy import Engine, select

from services.accounts.people import add_person
from services.accounts.roles import Role
from services.accounts.sessions import start_session
from services.accounts.tables import users
from services.console.app import make_app
from services.console.job_lines import JobsReader
from services.console.queue_reading import QueueReader
from services.console.scan_reading import ScanReader
from services.console.sign_in import SESSION_KEY
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from services.jobs.conditions import count_conditions
from services.ledger.health_check import HealthCheck

PASSWORD = "correct horse battery staple"


def make_console(engine: Engine) -> FlaskClient:
    """Return a browser that is not signed in. Password hashes of its console take no time."""
    probe = HealthCheck(count_conditions, engine=lambda: engine, ping=lambda _: 0.2, keep_seconds=0.0)
    queues = QueueReader(probe, 0, 0, 60, lambda queues: dict.fromkeys(queues, 0))
    app = make_app(get_settings(), probe, None, ScanReader(0, 0, 60), queues, JobsReader(0, 0))
    app.extensions["security"].pwd_context.update(
        argon2__time_cost=1, argon2__memory_cost=8, argon2__parallelism=1
    )
    return app.test_client()


def sign_in_as(
    client: FlaskClient, role: Role, *, email: str = "", shops: Mapping[int | None, Role] | None = None
) -> FlaskClient:
    """Add a person with ``role`` in the fleet, or the roles at ``shops``; sign the browser in as them."""
    email = email or f"{role.title}@example.com"
    with transaction() as tx:
        user_id = add_person(tx, email, "", shops or {None: role}, by="test", now=utc_now())
        token = start_session(tx, user_id, "127.0.0.1", "test", utc_now(), has_second_factor=True)
        uniquifier = tx.execute(select(users.c.fs_uniquifier).where(users.c.id == user_id)).scalar_one()
    with client.session_transaction() as session:
        session.update({SESSION_KEY: token, "_user_id": uniquifier, "_fresh": True, "fs_paa": time()})
    return client


def read_csrf_token(client: FlaskClient, path: str = "/account") -> str:
    """Return the token that forms of this browser send."""
    page = client.get(path).text
    return page.split('name="csrf_token"', 1)[1].split('value="', 1)[1].split('"', 1)[0]


def make_code(key: str, steps: int = 0) -> str:
    """Return the code of this half minute, or of one ``steps`` later (RFC 6238)."""
    raw = base64.b32decode(key.replace("-", ""))
    step = int(utc_now().timestamp()) // 30 + steps
    digest = hmac.digest(raw, struct.pack(">Q", step), "sha1")
    begin = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[begin : begin + 4])[0] & 0x7FFFFFFF) % 1_000_000:06}"
