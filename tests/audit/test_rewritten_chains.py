"""Archiving does not hide a rewritten chain; its finding stays until a person closes it."""

import ast
import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection, Engine, text

from services.alerts.incidents import list_open_incidents
from services.audit.anchors import make_anchor
from services.audit.chain import ChainPosition
from services.audit.checkpoints import record_checkpoints
from services.audit.queries import find_ends
from services.audit.signing import make_signer
from services.audit.verify import TURN_DAYS, VerifyOptions, verify_audit
from services.cli.main import main
from services.console.app import make_app
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Refused
from services.core.settings import Settings, get_settings
from services.jobs.audit_jobs import AUDIT_FAILED, anchor_heads, archive_events, verify_chains
from services.jobs.handler import JobResult
from services.providers.object_store import open_store
from services.shops.shops import add_shop
from tests.audit.chains import altering, append_chain, archive_old
from tests.audit.test_jobs import finish
from tests.audit.verification import rewrite_from

URL = "/api/v1/platform/verify-audit"
OLD = utc_now() - timedelta(days=100)
Rows = list[tuple[object, ...]]


@pytest.fixture(autouse=True)
def shop(engine: Engine, archive: Settings) -> int:
    """A shop with six rows to archive; the fifth is the signed head."""
    with transaction(engine) as tx:
        add_shop(
            tx, slug="harbour", name="Harbour", timezone="UTC", currency="CAD", now=utc_now() - timedelta(95)
        )
    with transaction(engine) as tx:
        append_chain(tx, 4, 1, OLD, first=2)
        record_checkpoints(tx, [(1, find_head(tx))], make_signer(archive), utc_now())
        append_chain(tx, 1, 1, OLD, first=6)
        append_chain(tx, 2, 1, utc_now(), first=7)
    return 1


def find_head(tx: Connection) -> ChainPosition:
    ends = find_ends(tx, 1)
    assert ends is not None
    return ends[1]


def rewrite(owner_engine: Engine, seq: int = 3) -> None:
    """Alter a row as the owner, and rehash it and all later rows."""
    with altering(owner_engine) as tx:
        tx.execute(
            text("update audit_events set staff_label = 'mallory' where shop_id = 1 and seq = :seq"),
            {"seq": seq},
        )
        rewrite_from(tx, seq)


def read_rows(engine: Engine) -> Rows:
    with engine.connect() as tx:
        return [tuple(row) for row in tx.execute(text("select * from audit_events order by id"))]


def refused(
    engine: Engine, work: Callable[..., JobResult], shop_id: int | None = 1, period: str = "2026-11-20"
) -> Refused:
    with pytest.raises(Refused) as caught:
        finish(engine, work, shop_id, period)
    assert caught.value.code == "audit.altered"
    return caught.value


def verify(*arguments: str) -> tuple[int, dict[str, object]]:
    ran = CliRunner().invoke(main, ["audit", "verify", "--json", *arguments])
    return ran.exit_code, json.loads(ran.output)


def get_verification(settings: Settings, query: str = "") -> tuple[int, dict[str, object]]:
    answer = (
        make_app(settings).test_client().get(f"{URL}{query}", headers={"X-Cron-Secret": settings.cron_secret})
    )
    assert answer.json is not None
    return answer.status_code, answer.json


def test_a_chain_rewritten_after_a_checkpoint_is_not_archived(
    engine: Engine, owner_engine: Engine, archive: Settings
) -> None:
    rewrite(owner_engine)
    before = read_rows(engine)

    fault = refused(engine, archive_events)

    assert "nothing was archived or deleted" in str(fault)
    assert read_rows(engine) == before
    assert open_store(archive.archive_url).find_keys("events/") == []
    with transaction(engine) as tx:
        (incident,) = list_open_incidents(tx, AUDIT_FAILED)
    assert (incident.shop_id, incident.severity) == (1, "P1")
    code, result = verify("--full")
    assert (code, result["status"]) == (1, "altered")
    assert refused(engine, verify_chains, None, "2026-11-21").code == "audit.altered"
    with transaction(engine) as tx:
        assert [one.id for one in list_open_incidents(tx, AUDIT_FAILED)] == [incident.id]


def test_anchor_finds_a_rewritten_chain_whose_checkpoints_were_deleted(
    engine: Engine, owner_engine: Engine, archive: Settings
) -> None:
    finish(engine, anchor_heads)
    rewrite(owner_engine)
    with owner_engine.begin() as tx:
        tx.execute(text("delete from audit_checkpoints"))
    before = read_rows(engine)

    fault = refused(engine, archive_events)

    assert "in the anchor of" in str(fault)
    assert read_rows(engine) == before
    assert open_store(archive.archive_url).find_keys("events/") == []


def test_fleet_chain_names_an_anchor_that_was_deleted(
    engine: Engine, owner_engine: Engine, tmp_path: Path
) -> None:
    finish(engine, anchor_heads)
    rewrite(owner_engine)
    with owner_engine.begin() as tx:
        tx.execute(text("delete from audit_checkpoints"))
    shutil.rmtree(tmp_path / "archive" / "anchors")

    assert "of the fleet's chain names it" in str(refused(engine, archive_events))


@pytest.mark.parametrize("proof", ["checkpoint", "anchor"])
def test_rows_rewritten_and_archived_while_their_proof_was_hidden_are_found_later(
    engine: Engine, owner_engine: Engine, archive: Settings, proof: str
) -> None:
    signer, store = make_signer(archive), open_store(archive.archive_url)
    with engine.connect() as tx:
        signed = ChainPosition(*tx.execute(text("select seq, hash from audit_checkpoints")).one())
    with owner_engine.begin() as tx:
        tx.execute(text("delete from audit_checkpoints"))
    rewrite(owner_engine)
    assert archive_old(engine, 1, store, signer, utc_now()).deleted == 6

    if proof == "checkpoint":
        with transaction(engine) as tx:
            record_checkpoints(tx, [(1, signed)], signer, OLD)
    else:
        anchor = make_anchor([(1, signed)], store, signer, OLD)
        store.put(anchor.key, anchor.data)

    found = []
    for turn in range(TURN_DAYS):
        with transaction(engine) as tx:
            found += verify_audit(tx, VerifyOptions(full=True, turn=turn), signer, store).findings
    assert [(one.kind, one.seq) for one in found] == [("rewritten", 5)]
    assert f"in {'a checkpoint' if proof == 'checkpoint' else 'the anchor'} of" in found[0].detail


def test_a_finding_stays_open_where_the_chain_verifies_again_until_a_person_closes_it(
    engine: Engine, owner_engine: Engine, archive: Settings
) -> None:
    def set_label(label: str) -> None:
        with altering(owner_engine) as tx:
            tx.execute(
                text("update audit_events set staff_label = :x where shop_id = 1 and seq = 3"), {"x": label}
            )

    label = str(read_rows(engine)[2][4])
    set_label("mallory")
    refused(engine, verify_chains, None)
    set_label(label)
    signed = count_checkpoints(engine)

    code, result = verify("--full")
    assert (code, result["status"], result["findings"]) == (1, "finding_open", [])
    (finding,) = result["open_findings"]  # type: ignore[misc]
    assert "fleet incidents resolve 1 --reason TEXT" in finding["detail"]
    shown = CliRunner().invoke(main, ["audit", "verify"])
    assert shown.exit_code == 1
    assert "finding open: incident 1, open since" in shown.output
    code, answer = get_verification(archive, "?full=1")
    assert (code, answer["status"]) == (409, "finding_open")
    assert "fleet incidents resolve 1" in str(answer["open_findings"])
    night = finish(engine, verify_chains)
    assert (night.result, night.stats["open_findings"]) == ("finding_open", 1)
    assert count_checkpoints(engine) == signed, "a chain with a finding gets no checkpoint"
    assert "incident 1" in str(refused(engine, archive_events))

    with transaction(engine) as tx:
        tx.execute(text("update incidents set status = 'resolved'"))

    assert verify("--full")[0] == 0
    assert get_verification(archive)[0] == 200
    assert finish(engine, verify_chains).result == "done"
    assert finish(engine, archive_events, 1).stats["deleted"] == 6


def count_checkpoints(engine: Engine) -> int:
    with engine.connect() as tx:
        return int(tx.execute(text("select count(*) from audit_checkpoints where shop_id = 1")).scalar_one())


def test_finding_of_one_shop_does_not_hide_a_finding_of_another(
    engine: Engine, owner_engine: Engine, archive: Settings
) -> None:
    with transaction(engine) as tx:
        other = add_shop(tx, slug="quay", name="Quay", timezone="UTC", currency="CAD", now=utc_now())
        append_chain(tx, 1, other.id, utc_now(), first=2)
    rewrite(owner_engine)
    refused(engine, archive_events)

    assert verify("--shop", "quay")[0] == 0
    assert get_verification(archive, "?shop=quay")[0] == 200
    assert verify("--shop", "harbour")[0] == 1


def test_without_the_archive_role_rows_are_stored_and_kept_and_an_incident_opens(
    engine: Engine, archive: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = archive.audit_archive_database_url
    before = read_rows(engine)
    monkeypatch.setenv("AUDIT_ARCHIVE_DATABASE_URL", "")
    get_settings.cache_clear()

    first = finish(engine, archive_events, 1)
    again = finish(engine, archive_events, 1)

    assert first.result == "rows_kept"
    assert [first.stats[name] for name in ("events", "deleted", "kept")] == [6, 0, 6]
    assert (again.stats["events"], again.stats["kept"]) == (0, 6)
    assert read_rows(engine)[:8] == before[:8]
    with transaction(engine) as tx:
        (incident,) = list_open_incidents(tx, "audit_rows_kept")
    assert "AUDIT_ARCHIVE_DATABASE_URL is empty" in incident.summary
    monkeypatch.setenv("AUDIT_ARCHIVE_DATABASE_URL", url)
    get_settings.cache_clear()

    last = finish(engine, archive_events, 1)

    assert last.result == "done"
    assert [last.stats[name] for name in ("events", "deleted", "kept")] == [0, 6, 0]
    with transaction(engine) as tx:
        assert list_open_incidents(tx, "audit_rows_kept") == []
    assert verify("--full", "--archives")[0] == 0


def test_no_job_resolves_the_incident_of_a_finding() -> None:
    root = Path(__file__).parents[2]
    rules = {}
    for path in [*(root / "services").rglob("*.py"), *(root / "tasks").glob("*.py")]:
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if "resolve_incident" in text else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("resolve_incident"):
                rules[path.relative_to(root), node.lineno] = ast.unparse(node.args[2])

    assert len(rules) >= 5
    assert not [place for place, rule in rules.items() if "AUDIT_FAILED" in rule or AUDIT_FAILED in rule]
