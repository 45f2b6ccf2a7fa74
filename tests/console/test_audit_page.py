"""``/audit``: the last verification, the button that starts one, and the export."""

import subprocess
import sys
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from services.accounts.roles import Role
from services.audit.append import Mutation, append_change
from services.audit.signing import make_signer
from services.audit.verifications import record_verification
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from tests.audit.chains import altering
from tests.console.fleet_of_shops import add_fine_shops, add_signals
from tests.console.people import make_console, read_csrf_token, sign_in_as


@pytest.fixture
def ids(engine: Engine) -> list[int]:
    with engine.begin() as tx:
        add_signals(tx, utc_now())
        ids = add_fine_shops(tx, "harbour", "linden", now=utc_now())
    with transaction() as tx:
        for shop_id, slug in zip(ids, ("harbour", "linden"), strict=True):
            mutation = Mutation("shops", str(shop_id), f"set the name of {slug}")
            append_change(tx, "shop.set", {shop_id: [mutation]}, by="ada@example.com", now=utc_now())
    return ids


def post(client: FlaskClient, path: str, **values: str) -> TestResponse:
    return client.post(path, data={"csrf_token": read_csrf_token(client), **values})


def read_runs() -> list[tuple[str, str, str]]:
    query = "select status, origin, started_by from job_runs where job = 'audit-verify' and ended_at is null"
    with transaction() as tx:
        return [tuple(row) for row in tx.execute(text(query))]


def test_an_operator_of_the_fleet_starts_a_verification_once(engine: Engine, ids: list[int]) -> None:
    client = sign_in_as(make_console(engine), Role.OPERATOR)
    assert "Verify all chains now" in client.get("/audit").text

    post(client, "/audit/verify")
    assert "This page has its result" in client.get("/audit").text
    post(client, "/audit/verify")

    assert "is running already" in client.get("/audit").text
    assert read_runs() == [("pending", "console", "operator@example.com")]
    with transaction() as tx:
        work = tx.execute(text("select count(*) from work_queue where key like 'audit-verify%'")).scalar_one()
        actions = tx.execute(text("select action from audit_events where shop_id is null")).scalars().all()
    assert work == 1
    assert "job.run" in actions


def test_an_operator_of_a_shop_verifies_its_chain_and_no_other(engine: Engine, ids: list[int]) -> None:
    client = sign_in_as(make_console(engine), Role.OPERATOR, shops={ids[0]: Role.OPERATOR})

    post(client, "/audit/verify", shop="harbour")

    page = client.get("/audit").text
    assert "harbour is verified from its last checkpoint on: 1 row, unaltered" in page
    assert "<option>linden" not in page
    assert post(client, "/audit/verify", shop="linden").status_code == 404
    with transaction() as tx:
        checkpoints = tx.execute(text("select shop_id, seq from audit_checkpoints")).all()
        query = "select shop_id, staff_label from audit_events where action = 'audit.verify'"
        entries = tx.execute(text(query)).all()
    assert checkpoints == [(ids[0], 1)]
    assert entries == [(ids[0], "operator@example.com")]
    viewer = sign_in_as(make_console(engine), Role.VIEWER)
    assert post(viewer, "/audit/verify", shop="harbour").status_code == 403


def test_a_verified_chain_that_was_altered_opens_an_incident_and_is_named(
    engine: Engine, ids: list[int], owner_engine: Engine
) -> None:
    with altering(owner_engine) as tx:
        tx.execute(text("update audit_events set staff_label = 'x' where shop_id = :id"), {"id": ids[0]})
    client = sign_in_as(make_console(engine), Role.OPERATOR)

    post(client, "/audit/verify", shop="harbour")

    page = client.get("/audit").text
    assert "harbour: altered" in page
    assert "icon-red.svg" in page
    with transaction() as tx:
        incidents = tx.execute(text("select shop_id, severity from incidents where status = 'open'")).all()
        assert tx.execute(text("select count(*) from audit_checkpoints")).scalar_one() == 0
    assert incidents == [(ids[0], "P1")]


def test_the_page_has_findings_of_visible_chains_and_is_red(engine: Engine, ids: list[int]) -> None:
    with transaction() as tx:
        record_verification(tx, {ids[1]: ["row 7 of linden is altered"]}, utc_now())
    client = sign_in_as(make_console(engine), Role.VIEWER)
    other = sign_in_as(make_console(engine), Role.VIEWER, email="o@example.com", shops={ids[0]: Role.VIEWER})

    page = client.get("/audit").text
    assert "row 7 of linden is altered" in page
    assert "icon-red.svg" in page
    assert "linden" not in other.get("/audit").text


def test_an_export_is_verified_without_the_console_and_audited(
    engine: Engine, ids: list[int], tmp_path: Path
) -> None:
    client = sign_in_as(make_console(engine), Role.ADMIN)

    answer = post(client, "/audit/export", shop="harbour")

    assert answer.headers["Content-Disposition"].startswith("attachment; filename=audit-harbour-")
    file = tmp_path / "harbour.jsonl.gz"
    file.write_bytes(answer.data)
    key = make_signer(get_settings()).public_key
    command = [sys.executable, "-m", "services.audit.offline", str(file), "--public-key", key]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    with transaction() as tx:
        query = "select e.shop_id, e.staff_label, m.summary from audit_events e join audit_mutations m" \
            " on m.event_id = e.id where e.action = 'audit.export'"  # fmt: skip
        assert tx.execute(text(query)).all() == [
            (ids[0], "admin@example.com", "exported the chain of harbour")
        ]
    assert post(client, "/audit/export").status_code == 200, "all chains"


@pytest.mark.parametrize("shop", ["harbour", "linden", "", "nowhere", "\0"])
def test_an_admin_of_one_shop_exports_its_chain_alone_and_starts_nothing(
    engine: Engine, ids: list[int], shop: str
) -> None:
    client = sign_in_as(make_console(engine), Role.ADMIN, shops={ids[0]: Role.ADMIN})
    wanted = {"harbour": 200, "": 403}.get(shop, 404)

    assert post(client, "/audit/export", shop=shop).status_code == wanted
    assert post(client, "/audit/verify").status_code == 403
    assert "Verify all chains now" not in client.get("/audit").text
    assert "all chains</option>" not in client.get("/audit").text
    assert read_runs() == []
