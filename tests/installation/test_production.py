"""The commands of ``docs/production.md``, run as written on Debian's PostgreSQL, Redis and nginx."""

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.core.clock import utc_now
from services.fleet.process_list import BEATS, WORKERS
from services.sandbox.payloads.catalogue import make_items, make_product
from tests.installation.machine import Installation
from tests.installation.package_databases import Postgres
from tests.installation.package_servers import need, wait_until
from tests.installation.production_page import (
    PAGE,
    ProductionPage,
    list_substitutions,
    machine_environment,
    read_blocks,
)
from tests.installation.systemd import Systemd

pytestmark = pytest.mark.timeout(1200)

DOMAIN = "acme.myshopify.com"
SHOPIFY = "fleet send shopify --shop acme --topic orders/create --url https://hooks.example.com"
COUNT_ORDERS = "select count(*) from orders"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A machine on which every step of the page up to the first shop was done."""
    home = tmp_path_factory.mktemp("production")
    with Postgres(home / "postgres") as database:
        machine = Installation(home, database)
        try:
            yield machine
        finally:
            machine.close()


def test_the_page_installs_backs_up_restores_and_upgrades_a_fleet(machine: Installation) -> None:
    page = machine.page
    blocks = list(page.blocks)
    machine.redis.start()
    for heading in blocks[:6]:
        page.run(heading)
    secrets = [path for path in (machine.root / "etc").glob("shopfleet*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in secrets} == {0o600}
    assert len(secrets) == 4
    printed = page.shell("! shopfleet; ! shopfleet --owner")
    assert printed.count("missing: shopfleet [--owner] COMMAND ...\n") == 2
    assert len(printed.splitlines()) == 2, "env without a command prints the settings"
    assert "chmod" not in PAGE.read_text()  # a file that becomes private later was readable before
    machine_starts(machine)
    machine_is_reached(machine)
    machine_works(machine)
    page.run("Monitor")
    page.run("Back up")
    (dump,) = (machine.root / "var/backups/shopfleet").iterdir()
    assert dump.stat().st_mode & 0o777 == 0o600
    machine_is_restored(machine)
    machine_is_upgraded(machine)


def machine_starts(machine: Installation) -> None:
    """Step 7: every process works, and has the settings that it may have."""
    answer = machine.page.run("7. Processes")
    host = os.uname().nodename
    names = [f"{name.removeprefix('worker-')}@{host}" for name, _, _ in WORKERS]
    assert all(f"{name}: OK" in answer for name in names), answer
    assert f"{len(WORKERS)} nodes online" in answer
    assert '"failing":[]' in answer
    units = machine.systemd.units
    assert {*BEATS, "ingress", "console", "flower", *(name for name, _, _ in WORKERS)} == {
        name.removeprefix("shopfleet-") for name in units
    }
    assert not any("MIGRATE_DATABASE_URL" in unit.environment for unit in units.values())
    archives = [name for name, unit in units.items() if "AUDIT_ARCHIVE_DATABASE_URL" in unit.environment]
    assert archives == ["shopfleet-worker-night"]
    assert {unit.environment.get("REMAP_SIGTERM") for name, unit in units.items() if "worker" in name} == {
        "SIGQUIT"
    }
    password = units["shopfleet-flower"].environment["FLOWER_BASIC_AUTH"].partition(":")[2]
    flower = f"http://127.0.0.1:{machine.ports['flower']}/api/workers?refresh=1"
    workers = httpx.get(flower, auth=("admin", password), timeout=30).raise_for_status().json()
    assert set(workers) == set(names)


def machine_is_reached(machine: Installation) -> None:
    """Step 8: doctor finds no fault, a mail arrives, and only webhooks and health are public."""
    answer = machine.page.run("8. A public address")
    assert "fault" not in answer, answer
    assert "reaches the console" in answer
    assert "https://127.0.0.1" in answer, "the link of the first owner"
    assert len(list((machine.mail.home / "mails").glob("*.eml"))) == 1
    codes = machine.page.shell(
        "for path in health metrics livez cron/daily-summary; do\n"
        "  curl -s -o /dev/null -w '%{http_code} ' https://hooks.example.com/$path; done"
    )
    assert codes.split() == ["200", "404", "404", "404"]
    codes = machine.page.shell(
        "for path in sign-in livez cron/daily-summary metrics health; do\n"
        "  curl -s -o /dev/null -w '%{http_code} ' https://console.example.com/$path; done"
    )
    assert codes.split() == ["200", "200", "404", "404", "404"]


def machine_works(machine: Installation) -> None:
    """Step 9: shops are connected and read; a signed webhook comes in through nginx and becomes an order."""
    items = make_items(random.Random(5), 2)
    shop = {"id": 1, "currency": "CAD", "iana_timezone": "America/Vancouver", "myshopify_domain": DOMAIN}
    at_shopify = {
        "shop": DOMAIN,
        "webhooks": [{"topic": "shop/update", "body": shop}],
        "products": [make_product(items, updated_at=utc_now(), currency="CAD")],
    }
    control = f"http://127.0.0.1:{machine.providers.port}/_control"
    for body in (at_shopify, {"stripe_key": "rk_live_replace_me"}):
        httpx.post(control, json=body).raise_for_status()
    answer = machine.page.run("9. The first shops")
    assert "2 shops would be added" in answer
    assert "2 shops added" in answer
    assert "complete: 1 product," in answer
    assert "fault" not in answer, answer
    assert (machine.root / "var/lib/shopfleet/files/acme.jsonl.gz").is_file()
    assert not (machine.root / "root/acme.txt").exists()
    assert machine.count("select count(*) from audit_events where staff_label = 'root'") > 1
    machine.page.shell(f"shopfleet {SHOPIFY}")
    wait_until(lambda: machine.count(COUNT_ORDERS) == 1, "the order", 120)


def machine_is_restored(machine: Installation) -> None:
    """The restore: the database is that of the backup, and the fleet goes on from there."""
    machine.page.shell(f"shopfleet {SHOPIFY}")
    wait_until(lambda: machine.count(COUNT_ORDERS) == 2, "the order after the backup", 120)
    seen: list[int] = []
    count = {"systemctl start shopfleet-ingress": lambda: seen.append(machine.count(COUNT_ORDERS))}
    answer = machine.page.run("Restore", before=count)
    assert seen == [1]
    assert machine.count(COUNT_ORDERS, "shopfleet_damaged") == 2
    assert "verified" in answer, answer
    assert "fault" not in answer, answer
    machine.page.shell(f"shopfleet {SHOPIFY}")
    wait_until(lambda: machine.count(COUNT_ORDERS) == 2, "the order after the restore", 120)


def machine_is_upgraded(machine: Installation) -> None:
    """The upgrade: what is accepted meanwhile is done afterwards."""

    def send_meanwhile() -> None:
        machine.page.shell(f"shopfleet {SHOPIFY}")
        assert machine.count(COUNT_ORDERS) == 2

    answer = machine.page.run("Upgrade", before={"systemctl stop shopfleet-ingress": send_meanwhile})
    assert "as before" in answer
    assert "fault" not in answer, answer
    wait_until(lambda: machine.count(COUNT_ORDERS) == 3, "the order that was sent meanwhile", 120)


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    analyze = need("systemd-analyze")
    folder, python = tmp_path / "etc/systemd/system", tmp_path / "opt/shopfleet/.venv/bin/python"
    names = ("postgresql", "redis-server", "https", "smtp", "sandbox", "ingress", "console", "flower")
    substitutions = list_substitutions(tmp_path, dict.fromkeys(names, 1), tmp_path)
    environment = machine_environment(tmp_path, tmp_path)
    systemd = Systemd(folder, {}, environment, tmp_path / "log")
    page = ProductionPage(tmp_path, substitutions, environment, systemd)
    for made in (folder, python.parent):
        made.mkdir(parents=True)
    python.touch(0o755)
    for block in page.blocks["7. Processes"][:2]:
        page.shell("\n".join(line for line in block.splitlines() if not line.startswith("systemctl")))
    units = sorted(str(path) for path in folder.glob("shopfleet*.*") if path.is_file())
    assert len(units) == 10
    checked = subprocess.run(
        [analyze, "verify", *units],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line for line in checked.stderr.splitlines() if "shopfleet" in line] == []


def test_every_command_of_the_page_is_run() -> None:
    assert len(read_blocks()) > 10
    fences = PAGE.read_text().count("```") // 2
    assert sum(map(len, read_blocks().values())) == fences
