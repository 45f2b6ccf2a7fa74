"""``fleet audit`` commands and the HTTP verification."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from services.audit.offline import verify_file
from services.audit.signing import make_signer
from services.cli.main import main
from services.console.app import make_app
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import Settings
from services.shops.shops import add_shop
from tests.audit.chains import altering, append_chain

pytestmark = pytest.mark.usefixtures("archive")
URL = "/api/v1/platform/verify-audit"


@pytest.fixture(autouse=True)
def harbour(engine: Engine) -> int:
    """A shop with seven events, and the fleet chain with three."""
    with transaction(engine) as tx:
        shop = add_shop(tx, slug="harbour", name="Harbour", timezone="UTC", currency="CAD", now=utc_now())
        append_chain(tx, 6, shop.id, now=utc_now())
        append_chain(tx, 3, None, now=utc_now())
    return shop.id


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["audit", *arguments])


def alter(owner_engine: Engine, shop_id: int, seq: int = 3) -> None:
    with altering(owner_engine) as tx:
        tx.execute(
            text("update audit_events set action = 'x' where shop_id = :shop and seq = :seq"),
            {"shop": shop_id, "seq": seq},
        )


def test_a_finding_closes_the_deploy_gate_at_once(owner_engine: Engine, harbour: int) -> None:
    assert CliRunner().invoke(main, ["gate"]).exit_code == 0
    alter(owner_engine, harbour)

    assert run("verify").exit_code == 1
    closed = json.loads(CliRunner().invoke(main, ["gate", "--json"]).stdout)
    assert [one["code"] for one in closed["reasons"]] == ["audit_chain_broken"]


def test_intact_chains_exit_0_and_are_signed(engine: Engine) -> None:
    first = run("verify")

    assert first.exit_code == 0, first.output
    assert "harbour" in first.output
    assert "2 chains, 10 rows in" in first.output
    assert "text version 1" in first.output
    again = json.loads(run("verify", "--json").output)
    assert (again["status"], again["rows"], again["findings"]) == ("verified", 0, [])
    assert (again["text_version"], again["open_findings"]) == (1, [])
    full = json.loads(run("verify", "--json", "--full").output)
    assert [(chain["shop"], chain["rows"]) for chain in full["chains"]] == [(None, 3), ("harbour", 7)]


def test_altered_chain_exits_1_and_names_the_row(engine: Engine, owner_engine: Engine, harbour: int) -> None:
    alter(owner_engine, harbour)

    outcome = run("verify", "--shop", "harbour")

    assert outcome.exit_code == 1
    assert "altered: row 3 (event 3) of the chain of shop" in outcome.output
    found = json.loads(run("verify", "--json", "--shop", "harbour").output)["findings"]
    assert [(one["kind"], one["seq"], one["shop"]) for one in found] == [("altered", 3, "harbour")]
    with engine.connect() as tx:
        assert tx.scalar(text("select count(*) from audit_checkpoints")) == 0


def test_since_verifies_newer_rows(owner_engine: Engine, harbour: int) -> None:
    alter(owner_engine, harbour)

    assert run("verify", "--since", "2h").exit_code == 1
    assert run("verify", "--since", "2099-01-01").exit_code == 2
    assert "a time" in run("verify", "--since", "soon").output


@pytest.mark.parametrize("arguments", [["verify", "--shop", "nowhere"], ["export", "--shop", "nowhere"]])
def test_an_unknown_shop_is_wrong_usage(arguments: list[str]) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert "there is no shop 'nowhere'" in result.output


def test_anchor_is_stored_and_recorded_in_the_chain(
    engine: Engine, archive: Settings, tmp_path: Path
) -> None:
    dry = run("anchor", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "Would be anchored" in dry.output
    assert not (tmp_path / "archive").exists()

    made = json.loads(run("anchor", "--json", "--as", "ada").output)

    assert (made["stored"], made["heads"]) == (True, 2)
    assert made["public_key"] == make_signer(archive).public_key
    assert (tmp_path / "archive" / made["key"]).exists()
    with engine.connect() as tx:
        row = tx.execute(
            text("select staff_label, summary from audit_events e join audit_mutations m on m.event_id = e.id"
                 " where action = 'audit.anchor'")
        ).one()  # fmt: skip
    assert tuple(row) == ("ada", f"anchored 2 heads as {made['key']}")
    assert json.loads(run("verify", "--json").output)["anchors"] == 1


def test_export_is_written_once_and_verifies_offline(tmp_path: Path, archive: Settings) -> None:
    path = tmp_path / "out.jsonl.gz"

    first = run("export", "--out", str(path))

    assert first.exit_code == 0, first.output
    assert "10 events of 2 chains written" in first.output
    assert verify_file(path, make_signer(archive).public_key, lambda _: None) == []
    again = run("export", "--out", str(path))
    assert again.exit_code == 2
    assert "exists already" in again.output
    assert "Error: " in run("export", "--out", str(tmp_path / "no" / "folder")).output


def test_a_store_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "archive").write_text("no folder")

    result = run("anchor")

    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert "archive" in result.output


@pytest.fixture
def client(archive: Settings) -> FlaskClient:
    return make_app(archive).test_client()


@pytest.fixture
def secret(archive: Settings) -> dict[str, str]:
    return {"X-Cron-Secret": archive.cron_secret}


def test_over_http_whole_chains_are_verified(client: FlaskClient, archive: Settings) -> None:
    for headers in (
        {"X-Cron-Secret": archive.cron_secret},
        {"X-Internal-Secret": archive.cron_secret},
        {"Authorization": f"Bearer {archive.cron_secret}"},
    ):
        answer = client.get(URL, headers=headers)
        assert answer.status_code == 200, answer.text
    assert answer.json is not None
    assert (answer.json["status"], answer.json["chains"], answer.json["rows"]) == ("verified", 2, 10)
    assert answer.json["text_version"] == 1
    assert [(head["shop"], head["seq"]) for head in answer.json["heads"]] == [(None, 3), ("harbour", 7)]


def test_over_http_the_first_altered_row_is_named(
    client: FlaskClient, secret: dict[str, str], owner_engine: Engine, harbour: int
) -> None:
    alter(owner_engine, harbour)

    answer = client.get(f"{URL}?shop=harbour", headers=secret)

    assert answer.status_code == 409
    assert answer.json is not None
    assert answer.json["status"] == "altered"
    first = answer.json["first"]
    assert (first["shop"], first["kind"], first["seq"], first["event_id"]) == ("harbour", "altered", 3, 3)


def test_over_http_old_rows_are_verified_on_request(
    client: FlaskClient, secret: dict[str, str], owner_engine: Engine, harbour: int
) -> None:
    run("verify")
    alter(owner_engine, harbour)

    assert client.get(URL, headers=secret).status_code == 200
    assert client.get(f"{URL}?full=1", headers=secret).status_code == 409


def test_over_http_an_unknown_shop_is_not_found(client: FlaskClient, secret: dict[str, str]) -> None:
    answer = client.get(f"{URL}?shop=nowhere", headers=secret)

    assert (answer.status_code, answer.json and answer.json["error"]) == (404, "unknown_shop")


def test_over_http_the_secret_is_required(client: FlaskClient, archive: Settings) -> None:
    wrong = [
        {},
        {"X-Cron-Secret": ""},
        {"X-Cron-Secret": archive.cron_secret + "x"},
        {"Authorization": "Basic x"},
    ]

    assert [client.get(URL, headers=headers).status_code for headers in wrong] == [403] * 4
    assert client.post(URL, headers={"X-Cron-Secret": archive.cron_secret}).status_code == 405


def test_over_http_an_unreachable_store_is_reported(
    client: FlaskClient, secret: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "archive").write_text("no folder")

    answer = client.get(URL, headers=secret)

    assert (answer.status_code, answer.json and answer.json["error"]) == (503, "archive.refused")
    assert "archive" in answer.text


@pytest.mark.parametrize(
    ("options", "seqs"),
    [
        ((), [7, 3, 6, 2, 5, 1, 4, 3, 2, 1]),
        (("--shop", "harbour"), [7, 6, 5, 4, 3, 2, 1]),
        (("--by", "FLEET", "--table", "shops"), [7]),
        (("--table", "mail_outbox"), []),
        (("--by", "nobody"), []),
        (("--by", "%"), []),
        (("--shop", "harbour", "--limit", "2"), [7, 6]),
    ],
)
def test_list_has_what_the_filters_say_newest_first(options: tuple[str, ...], seqs: list[int]) -> None:
    lines = json.loads(run("list", "--json", *options).stdout)

    assert sorted(line["seq"] for line in lines) == sorted(seqs)
    assert [line["id"] for line in lines] == sorted((line["id"] for line in lines), reverse=True)


def test_list_names_shop_person_and_change() -> None:
    shown = run("list", "--table", "shops", "--since", "1h")

    assert shown.exit_code == 0, shown.output
    assert "added shop harbour" in shown.output
    assert "No change matches." in run("list", "--since", "1h", "--by", "nobody").output
