"""The size of each table by day: growth is since the first measurement of the last week."""

import json
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Engine, text

from services.alerts.database_figures import LARGE, measure_size
from services.core.clock import utc_now
from services.core.db import transaction
from services.ledger.table_sizes import list_table_sizes, record_table_sizes
from tests.cli.commands import run

NOW = datetime(2026, 11, 28, 7, tzinfo=UTC)
DAY = timedelta(days=1)
FILL = "insert into statement_texts select n::text, repeat('x', 4000) from generate_series(1, 3000) n"


def find_growth(tx: Connection) -> dict[str, int]:
    return {one.table_name: one.bytes_grown for one in list_table_sizes(tx, NOW) if one.bytes_grown}


def test_growth_is_since_the_first_day_of_the_last_week(tx: Connection) -> None:
    tx.execute(text("insert into table_sizes values (:at, 'statement_texts', 1, 1)"), {"at": NOW - 20 * DAY})
    record_table_sizes(tx, NOW - 7 * DAY)
    tx.execute(text(FILL.replace("3000", "300")))
    record_table_sizes(tx, NOW - 3 * DAY)
    assert find_growth(tx).keys() - {"table_sizes"} == {"statement_texts"}
    before = find_growth(tx)["statement_texts"]
    tx.execute(text(FILL.replace("(1, 3000)", "(301, 900)")))

    assert find_growth(tx)["statement_texts"] > before
    assert {one.since for one in list_table_sizes(tx, NOW)} == {datetime(2026, 11, 21, tzinfo=UTC)}


def test_a_day_is_measured_once(tx: Connection) -> None:
    record_table_sizes(tx, NOW)
    count = tx.execute(text("select count(*) from table_sizes")).scalar_one()
    record_table_sizes(tx, NOW + timedelta(hours=3))

    assert tx.execute(text("select count(*) from table_sizes")).scalar_one() == count > 60


def test_without_a_measurement_the_growth_is_not_known(tx: Connection) -> None:
    record_table_sizes(tx, NOW - 20 * DAY)

    assert {one.since for one in list_table_sizes(tx, NOW)} == {None}
    (figure,) = measure_size(tx, NOW)[LARGE]
    assert figure.detail["grown"] == "growth is not known yet"


def test_the_tables_that_grew_most_are_in_the_figure_and_in_the_command(engine: Engine) -> None:
    with transaction(engine) as tx:
        record_table_sizes(tx, utc_now() - 2 * DAY)
        tx.execute(text(FILL))
        (figure,) = measure_size(tx, utc_now())[LARGE]
    assert figure.detail["grown"].partition(": ")[2].startswith("statement_texts +0.0 GB")

    lines = json.loads(run("retention", "sizes", "--json").output)
    (line,) = [line for line in lines if line["table_name"] == "statement_texts"]
    assert line["bytes_grown"] > 100_000
    assert "statement_texts" in run("retention", "sizes").output
