"""``/``: one line a shop, the worst first, with filter, search, pages and one verdict."""

import re
from datetime import datetime, timedelta
from html import unescape
from threading import Event

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, event

from services.accounts.roles import Role
from services.alerts.incidents import Incident, record_incidents
from services.console.app import make_app
from services.console.scan_facts import ShopScan, Sources
from services.console.scan_reading import ScanReader, ScanReading, read_scan
from services.console.shared_reader import OLDEST
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from services.jobs.conditions import count_conditions
from services.ledger.health_check import HealthCheck
from tests.console.fleet_of_shops import add_fine_shops, add_signals
from tests.console.people import make_console, sign_in_as
from tests.health.fleet_rows import add_work


def list_shown(page: str) -> list[str]:
    return re.findall(r'<th scope="row"><a href="/shops/([^"]+)">', page)


def find_verdict(page: str) -> str:
    found = re.search(r'class="status (\w+)" role="status">\s*<h1>(.*?)</h1>', page)
    assert found is not None
    return " ".join(found.groups())


@pytest.fixture
def ids(engine: Engine) -> list[int]:
    with engine.begin() as tx:
        add_signals(tx, utc_now())
        return add_fine_shops(tx, "harbour", "orchard", "bakery", now=utc_now())


def test_a_clean_night_of_all_shops_is_one_fine_verdict(client: FlaskClient) -> None:
    page = client.get("/").text

    assert find_verdict(page) == "fine 3 of 3 shops fine"
    assert list_shown(page) == ["bakery", "harbour", "orchard"]
    assert "<title>Morning scan" in page
    assert "icon.svg" in page


def test_dead_work_is_red_first_and_in_the_title(engine: Engine, client: FlaskClient, ids: list[int]) -> None:
    with engine.begin() as tx:
        add_work(tx, "order_ingest", status="dead", shop_id=ids[1], died_at=utc_now() - timedelta(hours=3))

    page = client.get("/").text

    assert find_verdict(page) == "red 2 of 3 shops fine"
    assert list_shown(page)[0] == "orchard"
    assert "<title>(1) Morning scan" in page
    assert "icon-red.svg" in page
    assert re.search(
        r'<td class="red" data-label="Dead work"><a href="/work\?shop=orchard&amp;status=dead">', page
    )
    assert ">3 h</time>" in page


def test_a_shop_without_last_night_is_unknown_and_above_fine(engine: Engine, client: FlaskClient) -> None:
    with engine.begin() as tx:
        tx.exec_driver_sql(
            'update shop_config set last_daily_run = last_daily_run || \'{"day": "2026-01-01"}\''
            " where shop_id = (select id from shops where slug = 'orchard')"
        )

    page = client.get("/").text

    assert find_verdict(page) == "unknown 2 of 3 shops fine"
    assert list_shown(page)[0] == "orchard"


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("delete from rule_evaluations", "The alert rules were never evaluated"),
        ("update rule_evaluations set computed_at = now() - interval '12 min'", "evaluated 12 min ago"),
        (
            "update heartbeats set at = now() - interval '7 min' where name = 'beat'",
            "Beat was seen 7 min",
        ),
    ],
)
def test_nothing_is_fine_while_nobody_checks(
    engine: Engine, client: FlaskClient, statement: str, why: str
) -> None:
    with engine.begin() as tx:
        tx.exec_driver_sql(statement)

    page = client.get("/").text

    assert find_verdict(page) == "unknown 0 of 3 shops fine"
    assert why in page


def test_every_cell_leads_to_its_evidence(engine: Engine, client: FlaskClient, ids: list[int]) -> None:
    with engine.begin() as tx:
        record_incidents(tx, [Incident(ids[0], "stock_oversold", "x", "P2", "oversold")], utc_now())
        record_incidents(
            tx, [Incident(ids[1], "reconciliation_break", "x", "P2", "2 payments differ")], utc_now()
        )

    links = set(re.findall(r'<td class="\w+" data-label="[^"]+"><a href="([^"]+)"', client.get("/").text))

    assert len(links) > 8 * 3
    assert {link: client.get(unescape(link)).status_code for link in links} == dict.fromkeys(links, 200)


def test_an_empty_fleet_names_the_command_that_adds_a_shop(engine: Engine) -> None:
    page = sign_in_as(make_console(engine), Role.VIEWER).get("/").text

    assert find_verdict(page) == "unknown No shops yet"
    assert "fleet shops add" in page


def test_filters_search_and_counters_follow_each_other(
    engine: Engine, client: FlaskClient, ids: list[int]
) -> None:
    with engine.begin() as tx:
        add_work(tx, "order_ingest", status="dead", shop_id=ids[1])

    assert list_shown(client.get("/?state=red,unknown").text) == ["orchard"]
    assert list_shown(client.get("/?state=fine&q=BAKE").text) == ["bakery"]
    page = client.get("/?q=or").text
    assert list_shown(page) == ["orchard"]
    assert re.findall(r">(all|red|fine) <span class=\"\w*\">(\d+)<", page) == [
        ("all", "1"), ("red", "1"), ("fine", "0"),
    ]  # fmt: skip
    assert "No shop matches" in client.get("/?q=nothing").text
    assert client.get("/?q=<script>").text.count("<script>") == 0


def test_a_person_of_one_shop_sees_it_alone(engine: Engine, ids: list[int]) -> None:
    with engine.begin() as tx:
        add_work(tx, "order_ingest", status="dead", shop_id=ids[1])
    person = sign_in_as(make_console(engine), Role.VIEWER, shops={ids[0]: Role.OPERATOR})

    page = person.get("/").text

    assert list_shown(page) == ["harbour"]
    assert find_verdict(page) == "fine 1 of 1 shop fine"
    assert "orchard" not in page
    assert ">Fleet<" not in page


def test_a_thousand_shops_are_pages_of_a_hundred(engine: Engine, client: FlaskClient) -> None:
    with engine.begin() as tx:
        add_fine_shops(tx, *(f"shop{n:04}" for n in range(997)), now=utc_now())

    pages = [client.get("/", query_string={"page": page}).text for page in ("1", "10", "99", "x", "-1")]

    assert find_verdict(pages[0]) == "fine 1,000 of 1,000 shops fine"
    assert [len(list_shown(page)) for page in pages] == [100] * 5
    assert list_shown(pages[1]) == list_shown(pages[2])
    assert list_shown(pages[3]) == list_shown(pages[4]) == list_shown(pages[0])
    assert "Page 10 of 10, 1,000 lines" in pages[1]


def test_the_number_of_queries_does_not_grow_with_the_shops(engine: Engine) -> None:
    def count() -> int:
        seen: list[str] = []
        with transaction(engine) as tx:
            event.listen(tx, "before_cursor_execute", lambda *values: seen.append(values[2]))
            read_scan(tx, utc_now())
        return len(seen)

    empty = count()
    with engine.begin() as tx:
        add_signals(tx, utc_now())
        add_fine_shops(tx, *(f"shop{n:04}" for n in range(50)), now=utc_now())

    assert count() == empty < 20


def make_reading(at: datetime) -> ScanReading:
    line = ShopScan(0, "", "Fleet", "UTC", "fine", {})
    return ScanReading(at, Sources(at, at), line, [])


def test_a_slow_reading_shows_the_one_before() -> None:
    readings, finish = iter([make_reading(utc_now())]), Event()

    def read() -> ScanReading:
        if (found := next(readings, None)) is None:
            finish.wait(60)
        return found or make_reading(utc_now())

    reader = ScanReader(0, 0, quick_seconds=0.01, read=read)
    first = reader.read()

    assert first is not None
    assert reader.read() is first
    finish.set()


def test_an_old_reading_is_not_shown_and_a_failed_one_is_no_figures() -> None:
    old = make_reading(utc_now() - OLDEST * 2)
    found = iter([old])
    reader = ScanReader(0, 0, read=found.__next__)

    assert reader.read() is old
    assert reader.read() is None


def test_the_page_without_figures_is_503_and_red(engine: Engine) -> None:
    def fail() -> ScanReading:
        raise RuntimeError("no figures")

    probe = HealthCheck(count_conditions, engine=lambda: engine, ping=lambda _: 0.2)
    client = make_app(get_settings(), probe, scan=ScanReader(0, 0, read=fail)).test_client()

    answer = sign_in_as(client, Role.VIEWER).get("/")

    assert answer.status_code == 503
    assert "The shops could not be read" in answer.text
    assert "icon-red.svg" in answer.text
