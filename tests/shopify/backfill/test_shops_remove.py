"""``fleet shops remove``: one shop's data is exported and deleted; proofs and other shops stay."""

import json
import stat
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from click.testing import CliRunner, Result

from services.audit.signing import make_signer
from services.audit.verify import VerifyOptions, verify_chain
from services.cli import shops_remove
from services.cli.main import main
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Refused
from services.core.settings import get_settings
from services.jobs.scheduler import SCHEDULES
from services.privacy.shop_removal import KEPT, WEBHOOKS_IGNORED_FOR, list_tables
from services.providers.object_store import open_store
from services.shopify.backfill.run import backfill_shopify
from services.shops.secrets import delete_retired_secrets, record_secret
from services.shops.shops import ShopInvalid, add_shop, list_shops
from tests.alerts.linked import LINK, list_actions, open_incident
from tests.retention.old_rows import archive_with, make_old, read_all
from tests.shopify.backfill.fake_shop import DOMAIN, TOKEN, Shops, control, put_order, receive
from tests.shopify.backfill.sample_day import make_day

CLIENT_SECRET = "shpss_" + "0b" * 16

_CLOSE = """
insert into closed_periods (shop_id, period, begins_on, ends_before, closed_at, figures, files, manifest_key,
                            manifest_sha256)
values (%(shop_id)s, '2026-10', '2026-10-01', '2026-11-01', now(),
        '{"accounts": {}, "counts": {}, "zone": "UTC"}', '[]', 'close/x/manifest.json', 'ab')
"""


@pytest.fixture
def shop(shops: Shops, monkeypatch: pytest.MonkeyPatch) -> Shops:
    """Both shops with a day, secrets, a closed month and subscriptions."""
    monkeypatch.setattr(shops_remove, "SETTLE_SECONDS", 0.0)
    monkeypatch.setenv("PUBLIC_URL", "https://hooks.example.com")
    get_settings.cache_clear()
    day = make_day(3)
    for shop_id in (shops.whole, shops.holed):
        receive(shops.engine, shop_id, day.webhooks)
        with transaction(shops.engine) as tx:
            record_secret(tx, shop_id, "shopify-webhook", CLIENT_SECRET, utc_now())
            tx.exec_driver_sql(_CLOSE, {"shop_id": shop_id})
    for slug in ("holed", "whole"):
        uri = f"https://hooks.example.com/webhooks/shopify/{slug}"
        control(shops.url, shop=DOMAIN, subscriptions=[{"topic": "ORDERS_PAID", "uri": uri}])
    return shops


def remove(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["shops", "remove", *map(str, arguments)])


def rows_of(shops: Shops, shop_id: int) -> dict[str, list[bytes]]:
    """Return every row of a shop, by table."""
    with transaction(shops.engine) as tx:
        tables = (*list_tables(tx), *KEPT, "shop_config", "shop_secrets")
        return {
            table: sorted(
                orjson.dumps(row, option=orjson.OPT_SORT_KEYS)
                for row in tx.exec_driver_sql(
                    f"select to_jsonb(t) from {table} t where shop_id = %(shop_id)s",  # noqa: S608 - our names
                    {"shop_id": shop_id},
                ).scalars()
            )
            for table in tables
        }


def test_removed_shop_leaves_only_proofs_and_nothing_of_another_shop_changes(
    shop: Shops, tmp_path: Path
) -> None:
    other, before = rows_of(shop, shop.whole), rows_of(shop, shop.holed)

    open_incident(shop.engine)
    done = remove("holed", "--export", tmp_path / "data", "--confirm", "holed", "--json", *LINK)

    assert done.exit_code == 0, done.output
    assert list_actions(shop.engine) == [("ada", "removes holed")]
    report = json.loads(done.stdout)
    assert rows_of(shop, shop.whole) == other
    after = {table for table, rows in rows_of(shop, shop.holed).items() if rows}
    assert after == {"audit_events", "closed_periods", "shop_config", "shop_secrets"}
    assert report["exported"]["orders"] == report["deleted"]["orders"] == len(before["orders"])
    assert "1 webhook subscription deleted at Shopify" in done.stderr
    with transaction(shop.engine) as tx:
        names = tx.exec_driver_sql(
            "select name, expires_at from shop_secrets where shop_id = %(id)s", {"id": shop.holed}
        ).all()
        chain = verify_chain(
            tx, shop.holed, VerifyOptions(shop_id=shop.holed, is_one_chain=True, full=True),
            make_signer(get_settings()), open_store(get_settings().archive_url), (),
        )  # fmt: skip
    assert [row.name for row in names] == ["shopify-webhook"]
    assert names[0].expires_at is not None
    assert not list(chain.findings)
    left = httpx.post(
        f"{shop.url}/shopify/{DOMAIN}/admin/api/2026-07/graphql.json",
        headers={"X-Shopify-Access-Token": TOKEN},
        json={"query": "{ webhookSubscriptions(first: 9) { nodes { uri } } }"},
    ).json()["data"]["webhookSubscriptions"]["nodes"]
    assert left == [{"uri": "https://hooks.example.com/webhooks/shopify/whole"}]


def test_export_has_every_row_and_no_secret_and_is_private(shop: Shops, tmp_path: Path) -> None:
    before = rows_of(shop, shop.holed)

    remove("holed", "--export", tmp_path / "data", "--confirm", "holed")

    files = {path.stem: path for path in (tmp_path / "data").glob("*.jsonl")}
    exported = {name: path.read_text().splitlines() for name, path in files.items()}
    assert {name: len(lines) for name, lines in exported.items()} == {
        name: len(rows) for name, rows in before.items() if name not in ("shop_secrets", "archive_keys")
    } | {"archived_events": 0}
    assert json.loads(exported["inbound_events"][0])["body"].startswith("{")
    assert CLIENT_SECRET not in "".join("".join(lines) for lines in exported.values())
    modes = {stat.S_IMODE(path.stat().st_mode) for path in files.values()}
    assert (modes, stat.S_IMODE((tmp_path / "data").stat().st_mode)) == ({0o600}, 0o700)


def test_export_never_replaces_the_data_of_another_shop(shop: Shops, tmp_path: Path) -> None:
    remove("holed", "--export", tmp_path / "data", "--confirm", "holed")
    exported = {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    before = rows_of(shop, shop.whole)

    refused = remove("whole", "--export", tmp_path / "data", "--confirm", "whole")

    assert (refused.exit_code, "has the data of the shop holed" in refused.output) == (2, True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()} == exported
    assert rows_of(shop, shop.whole) == before


@pytest.mark.parametrize("text", ["", "[]", '{"name": "app"}'])
def test_folder_of_something_else_is_refused(shop: Shops, tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)

    refused = remove("holed", "--export", tmp_path, "--confirm", "holed")

    assert (refused.exit_code, "a manifest.json of something else" in refused.output) == (2, True)
    assert rows_of(shop, shop.holed)["orders"]


def test_export_that_cannot_be_written_deletes_nothing(shop: Shops, tmp_path: Path) -> None:
    (tmp_path / "data" / "orders.jsonl").mkdir(parents=True)
    before = rows_of(shop, shop.holed)

    refused = remove("holed", "--export", tmp_path / "data", "--confirm", "holed")

    assert refused.exit_code == 1
    assert "orders.jsonl: Is a directory; the export is not whole, so nothing was deleted" in refused.output
    assert rows_of(shop, shop.holed) == before


def test_export_makes_its_files_anew_where_a_file_or_link_is(shop: Shops, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "other").write_text("kept")
    (tmp_path / "data" / "orders.jsonl").symlink_to(tmp_path / "other")
    (tmp_path / "data" / "customers.jsonl").touch(0o644)

    done = remove("holed", "--export", tmp_path / "data", "--confirm", "holed")

    assert done.exit_code == 0, done.output
    assert (tmp_path / "other").read_text() == "kept"
    modes = {stat.S_IMODE(path.lstat().st_mode) for path in (tmp_path / "data").glob("*.jsonl")}
    assert modes == {0o600}


def test_removed_shop_is_in_no_list_has_no_job_and_its_slug_stays_taken(shop: Shops, tmp_path: Path) -> None:
    remove("holed", "--export", tmp_path / "data", "--confirm", "holed")

    with transaction(shop.engine) as tx:
        assert [one.slug for one in list_shops(tx)] == ["whole"]
        tx.exec_driver_sql(
            "insert into jobs (name, topic, title, schedule, zone, per_shop, covers, grace_seconds, catch_up,"
            " min_run_seconds, volume, evidence, first_seen_at)"
            " values ('j', 't', 't', '@daily', 'shop', true, 'day', 0, 'skip', 0, '', '', now())"
        )
        places = tx.exec_driver_sql(f"select slug from ({SCHEDULES}) p", {"fleet_zone": "UTC"}).scalars()  # noqa: S608
        assert list(places) == ["whole"]
        with pytest.raises(ShopInvalid, match="is taken"):
            add_shop(tx, slug="holed", name="H", timezone="UTC", currency="CAD", now=utc_now())
    again = remove("holed", "--export", tmp_path / "more", "--confirm", "holed")
    assert (again.exit_code, "was removed already" in again.output) == (0, True)
    refused = CliRunner().invoke(main, ["shops", "show", "holed"])
    assert (refused.exit_code, "was removed on" in refused.output) == (2, True)
    kept = CliRunner().invoke(main, ["month-close", "show", "2026-10", "--shop", "holed", "--json"])
    assert json.loads(kept.output)["manifest_sha256"] == "ab"
    verified = CliRunner().invoke(main, ["audit", "verify", "--shop", "holed"])
    assert (verified.exit_code, "holed" in verified.output) == (0, True), verified.output


def test_dry_run_shows_what_is_deleted_and_kept_and_changes_nothing(shop: Shops) -> None:
    before = rows_of(shop, shop.holed)

    plan = json.loads(remove("holed", "--dry-run", "--json").output)

    assert plan["delete"]["orders"] == len(before["orders"])
    assert plan["keep"] == {"audit_events": len(before["audit_events"]), "closed_periods": 1}
    assert "the law requires" in plan["why"]["closed_periods"]
    assert "kept" in remove("holed", "--dry-run").output
    assert rows_of(shop, shop.holed) == before


@pytest.mark.parametrize(
    ("arguments", "named", "exit_code"),
    [
        (("--confirm", "holed"), "name a folder for the shop's data", 2),
        (("--export", "data"), "confirm the removal with --confirm holed", 2),
        (("--export", "data", "--confirm", "whole"), "'whole' is not holed: nothing was changed", 1),
    ],
)
def test_removal_needs_a_folder_and_the_slug(
    shop: Shops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Any, named: str, exit_code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    before = rows_of(shop, shop.holed)

    refused = remove("holed", *arguments)

    assert refused.exit_code == exit_code
    assert named in refused.output
    assert rows_of(shop, shop.holed) == before


def test_shop_of_a_pool_is_taken_out_first(shop: Shops) -> None:
    with transaction(shop.engine) as tx:
        tx.exec_driver_sql("update shop_config set stock_owner = 'pool:tokyo'")

    refused = remove("holed", "--export", "data", "--confirm", "holed")

    assert "`fleet shops set holed --stock-owner shopify`" in refused.output


def test_interrupted_removal_goes_on(shop: Shops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as cut:
        cut.setattr(shops_remove, "delete_rows", lambda *_: 1 / 0)
        remove("holed", "--export", tmp_path / "data", "--confirm", "holed")
    assert rows_of(shop, shop.holed)["orders"]

    done = remove("holed", "--confirm", "holed")

    assert done.exit_code == 0, done.output
    assert not rows_of(shop, shop.holed)["orders"]


def test_backfill_that_runs_while_its_shop_is_removed_records_nothing_more(
    shop: Shops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_order(shop, utc_now())
    removed = []

    def remove_first(*_: object) -> None:
        if not removed:
            removed.append(remove("holed", "--export", tmp_path / "data", "--confirm", "holed"))

    with pytest.raises(Refused, match="was removed"):
        backfill_shopify(shop.holed, utc_now(), "backfill", on_progress=remove_first)

    assert removed[0].exit_code == 0, removed[0].output
    after = {table for table, rows in rows_of(shop, shop.holed).items() if rows}
    assert after == {"audit_events", "closed_periods", "shop_config", "shop_secrets"}


def test_webhook_secret_of_a_removed_shop_is_deleted_after_its_time(shop: Shops, tmp_path: Path) -> None:
    remove("holed", "--export", tmp_path / "data", "--confirm", "holed")

    with transaction(shop.engine) as tx:
        assert delete_retired_secrets(tx, utc_now()) == 0
        assert delete_retired_secrets(tx, utc_now() + WEBHOOKS_IGNORED_FOR) == 1
        names = tx.exec_driver_sql("select shop_id from shop_secrets").scalars().all()
    assert set(names) == {shop.whole}


def test_archived_events_are_exported_and_then_unreadable(shop: Shops, tmp_path: Path) -> None:
    count = len(rows_of(shop, shop.holed)["inbound_events"])
    make_old(shop.engine, f"shop_id = {shop.holed}")
    archive_with(open_store(get_settings().archive_url))
    assert rows_of(shop, shop.holed)["inbound_events"] == []

    remove("holed", "--export", tmp_path / "data", "--confirm", "holed")

    lines = (tmp_path / "data" / "archived_events.jsonl").read_text().splitlines()
    assert len(lines) == count
    assert json.loads(json.loads(lines[0])["body"])
    readable, sealed = read_all(shop.engine, shop_id=shop.holed)
    assert (readable, len(sealed)) == ({}, count)
    assert not (tmp_path / "data" / "archive_keys.jsonl").exists()
