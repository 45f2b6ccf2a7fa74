"""What opens the deploy gate: for a broken chain nothing that the application's role can write."""

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import ProgrammingError

from services.alerts.evaluate import evaluate_rules
from services.alerts.figures import Figure
from services.alerts.gate import OPEN_FOR, open_gate, read_gate
from services.alerts.incidents import list_open_incidents
from services.alerts.people import resolve_by_person
from services.alerts.recorded_rules import AUDIT_FAILED
from services.alerts.rules import FIGURE_RULES
from services.cli.main import main
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from tests.audit.chains import altering, append_chain, entry
from tests.fakes.settings import settings_of

pytestmark = pytest.mark.usefixtures("now")
NOW = utc_now()
NAME = entry(1, 2).staff_label
MINUTE = timedelta(minutes=1)
RENAME = "update audit_events set staff_label = :name where shop_id = 1 and seq = 2"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def verify() -> Result:
    return run("audit", "verify", "--full")


def codes() -> list[str]:
    return [one["code"] for one in json.loads(run("gate", "--json").stdout)["reasons"]]


@pytest.fixture
def broken(engine: Engine, owner_engine: Engine) -> dict[int, int]:
    """The chains of shops 1 and 2 are broken, and a verification found it. Their incidents by shop."""
    with transaction(engine) as tx:
        for shop_id in (1, 2):
            append_chain(tx, 3, shop_id, NOW - timedelta(days=1))
    rename(owner_engine, "nobody")
    with altering(owner_engine) as tx:
        tx.execute(text("update audit_events set action = 'x' where shop_id = 2 and seq = 2"))
    assert verify().exit_code == 1
    with transaction(engine) as tx:
        return {one.shop_id: one.id for one in list_open_incidents(tx, AUDIT_FAILED)}


def rename(owner_engine: Engine, name: str) -> None:
    with altering(owner_engine) as tx:
        tx.execute(text(RENAME), {"name": name})


@pytest.fixture
def without_owner() -> Iterator[None]:
    """The commands have only the application's role."""
    with settings_of(MIGRATE_DATABASE_URL=get_settings().database_url):
        yield


OPENED = """
insert into incident_entries (incident_id, at, kind, detail)
select id, now(), 'gate_opened', jsonb_build_object('until', now() + interval '2 hours') from incidents
"""


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(
    "statement",
    [
        "update incidents set status = 'resolved', resolved_at = now(), resolved_by = 'ada'",
        "update incidents set rule = 'work_dead', severity = 'P3'",
        "delete from incidents",
        OPENED,
        "delete from incident_entries",
        "update audit_verifications set resolved_at = now()",
        "update audit_verifications set open_until = now() + interval '2 hours'",
        "update audit_verifications set findings = '[]'",
        "delete from audit_verifications",
        "truncate audit_verifications",
        "drop table audit_verifications",
        "alter table audit_verifications rename to hidden",
        """
        insert into audit_verifications (shop_id, at, findings)
        select shop_id, now(), '[]' from audit_verifications
        """,
        """
        insert into audit_verifications (shop_id, at, findings)
        select shop_id, now(), findings from audit_verifications
        """,
        """
        insert into audit_verifications (shop_id, at, findings, resolved_at)
        select shop_id, now(), findings, now() from audit_verifications
        """,
        """
        insert into audit_verifications (shop_id, at, findings, open_until)
        select shop_id, now(), findings, 'infinity' from audit_verifications
        """,
        """
        insert into audit_verifications (id, shop_id, at, findings) overriding system value
        select id + 99, shop_id, now(), '[]' from audit_verifications
        """,
        "select setval('audit_verifications_id_seq', 1)",
        "create temporary table audit_verifications (like public.audit_verifications)",
        "create temporary table incidents (like public.incidents)",
        "set role shopfleet_owner",
        "set session_replication_role = replica",
    ],
)
def test_no_statement_of_the_applications_role_opens_the_gate_for_a_broken_chain(
    engine: Engine, statement: str
) -> None:
    with engine.connect() as connection:
        with suppress(ProgrammingError):
            connection.execute(text(statement))
            connection.commit()
        connection.rollback()
        # A pooler gives the session of one process to the next.
        found = {one.code for one in read_gate(connection, utc_now()).reasons}
        connection.rollback()
        connection.invalidate()
    assert "audit_chain_broken" in found
    assert codes().count("audit_chain_broken") == 2
    assert verify().exit_code == 1
    assert codes().count("audit_chain_broken") == 2


@pytest.mark.usefixtures("broken", "without_owner")
@pytest.mark.parametrize("arguments", [("incidents", "resolve"), ("gate", "--for")])
def test_no_command_with_the_applications_role_opens_it(arguments: tuple[str, ...]) -> None:
    for incident_id in ("1", "2"):
        refused = run(*arguments, incident_id, "--reason", "it is fine")
        assert refused.exit_code == 1
        assert "is a broken audit chain: only the owner of the tables" in refused.output
    assert codes() == ["audit_chain_broken", "audit_chain_broken"]
    listed = json.loads(run("incidents", "list", "--json").stdout)
    assert [one["status"] for one in listed] == ["open", "open"]


def test_the_owner_opens_it_for_the_findings_of_one_chain_and_no_later_ones(
    engine: Engine, owner_engine: Engine, broken: dict[int, int]
) -> None:
    with transaction(owner_engine) as tx:
        open_gate(tx, broken[1], now=utc_now(), by="ada", reason="repairs the row")
    with transaction(engine) as tx:
        gate = read_gate(tx, utc_now())
        later = read_gate(tx, utc_now() + OPEN_FOR + MINUTE)
    assert [(one.code, one.incident) for one in gate.reasons] == [("audit_chain_broken", broken[2])]
    (opening,) = gate.openings
    assert (opening.incident, opening.by, opening.reason) == (broken[1], "ada", "repairs the row")
    assert [one.incident for one in later.reasons] == [broken[1], broken[2]]

    verify()
    assert codes() == ["audit_chain_broken"]
    with altering(owner_engine) as tx:
        tx.execute(text("update audit_events set staff_label = 'nobody' where shop_id = 1 and seq = 1"))
    verify()
    assert codes() == ["audit_chain_broken", "audit_chain_broken"]


def test_a_finding_that_the_owner_resolved_closes_it_until_a_verification_finds_nothing(
    owner_engine: Engine, broken: dict[int, int]
) -> None:
    first, second = str(broken[1]), str(broken[2])
    run("incidents", "resolve", second, "--reason", "known since the restore", "--as", "ada")
    resolved = run("incidents", "resolve", first, "--reason", "repaired", "--as", "ada")
    assert resolved.exit_code == 0
    assert " still closes the deploy gate" in resolved.output
    assert verify().exit_code == 1
    closed = run("gate")
    assert closed.output.count("audit_chain_broken") == 2
    assert "until a verification finds it no more; ada resolved it: repaired" in closed.output

    rename(owner_engine, NAME)
    verify()
    assert [one["incident"] for one in json.loads(run("gate", "--json").stdout)["reasons"]] == [broken[2]]
    opened = run("gate", "--for", second, "--reason", "repairs the other row", "--as", "ada")
    assert opened.exit_code == 0, opened.output
    rename(owner_engine, "nobody")
    verify()
    assert codes() == ["audit_chain_broken"]


@pytest.mark.usefixtures("broken")
def test_a_chain_that_verifies_again_closes_it_until_the_owner_resolves_the_finding(
    owner_engine: Engine,
) -> None:
    with altering(owner_engine) as tx:
        tx.execute(text("delete from audit_events"))
        append_chain(tx, 3, 1, NOW)
    assert verify().exit_code == 1, "a finding is open"
    assert codes() == ["audit_chain_broken", "audit_chain_broken"]


P1 = next(rule for rule in FIGURE_RULES.values() if rule.severity == "P1")
BEYOND = Figure(P1.threshold + 1, subject="beat", detail={"name": "beat", "queue": "ops"})


def open_p1(tx: Connection) -> None:
    for minute in range(int(P1.lasts / MINUTE) + 1):
        evaluate_rules(tx, {P1.name: [BEYOND]}, NOW + minute * MINUTE)


def test_a_p1_that_a_person_resolved_closes_it_while_its_figure_is_beyond_the_limit(engine: Engine) -> None:
    with transaction(engine) as tx:
        open_p1(tx)
        resolve_by_person(tx, 1, now=NOW, by="ada", reason="a false alarm", request_id="r")

    closed = run("gate")
    assert closed.exit_code == 1
    assert "- p1_open: incident 1 (P1, " in closed.output
    assert "was resolved by ada, but its figure is still beyond the limit" in closed.output
    opened = run("gate", "--for", "1", "--reason", "deploys the new limit", "--as", "bob")
    assert opened.exit_code == 0
    assert "for incident 1 (by bob: deploys the new limit)" in opened.output
    with transaction(engine) as tx:
        tx.execute(text("delete from incident_entries"))
        assert [one.code for one in read_gate(tx, utc_now()).reasons] == ["p1_open"]
        evaluate_rules(tx, {P1.name: []}, NOW + 9 * MINUTE)
        assert read_gate(tx, NOW + 9 * MINUTE).reasons == []
    assert run("gate", "--for", "1", "--reason", "x").exit_code == 1


def test_a_p1_of_an_earlier_time_does_not_close_it_again(engine: Engine) -> None:
    with transaction(engine) as tx:
        open_p1(tx)
        resolve_by_person(tx, 1, now=NOW, by="ada", reason="a false alarm", request_id="r")
        tx.execute(text("update alert_states set opened_at = opened_at + interval '1 day'"))
        assert read_gate(tx, utc_now()).reasons == []


def test_a_row_that_is_altered_again_after_its_repair_opens_an_incident(
    engine: Engine, owner_engine: Engine, broken: dict[int, int]
) -> None:
    rename(owner_engine, NAME)
    verify()  # shop 1 is fine again
    run("incidents", "resolve", str(broken[1]), "--reason", "repaired", "--as", "ada")
    verify()
    assert len(codes()) == 1  # shop 2 alone

    rename(owner_engine, "somebody else")
    verify()
    verify()

    assert len(codes()) == 2
    with transaction(engine) as tx:
        found = tx.execute(text("select count(*) from incidents where shop_id = 1 and status = 'open'"))
        assert found.scalar_one() == 1
