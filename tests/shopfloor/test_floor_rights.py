"""Races on one order, any history of scans, and what the application's role may not do."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from services.accounts.roles import Role
from services.core.settings import get_settings
from tests.shopfloor.floor import GID, STAGES, read_stages, sign_in
from tests.shopify.sample_payloads import rows

SQL = (Path(__file__).parents[2] / "services/schema/shop_floor.sql").read_text()
MOVE = "select answer from floor_transition(%(token)s, 1, %(gid)s, %(scan)s, %(action)s, %(stage)s, null)"
FUNCTIONS = """
select p.proname, p.prosecdef, r.rolcanlogin, p.proconfig,
       has_function_privilege('public', p.oid, 'execute')
  from pg_proc p join pg_roles r on r.oid = p.proowner
 where p.pronamespace = 'public'::regnamespace and p.proname like 'floor\\_%'
"""


def test_twenty_people_at_once_on_one_order_are_one_start_and_the_others_get_its_name(floor: Engine) -> None:
    tokens = [sign_in(floor, f"Person{number}") for number in range(20)]
    barrier = Barrier(20)

    def move(token: str) -> tuple[str, str, str]:
        with psycopg.connect(get_settings().database_url) as connection:
            barrier.wait()
            values = {"token": token, "gid": GID, "scan": uuid4()}
            found = connection.execute(MOVE, values | {"action": "scan", "stage": ""}).fetchone()
        assert found is not None
        return found[0]["code"], found[0]["by"], found[0].get("holder", "")

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(move, tokens))

    winners = [by for code, by, _ in answers if code == "OK"]
    assert len(winners) == 1
    assert {(code, holder) for code, _, holder in answers if code != "OK"} == {("STAGE_TAKEN", winners[0])}
    assert read_stages(floor) == [("Filling", winners[0], None)]


@pytest.mark.parametrize(
    "statement",
    [
        "update orders set stage = 'Complete'",
        "insert into orders (shop_id, order_gid, stage) values (1, 'x', 'Complete')",
        "insert into stage_sets values (1, '{a,b}', now(), '')",
        "update floor_orders set stage = 'Complete'",
        "delete from order_stages",
        "insert into stage_transitions (shop_id) values (1)",
        "select floor_person('', 1)",
        "select floor_add(1, '')",
        "set role shopfleet_floor",
        "delete from floor_orders",
        "truncate stage_transitions",
        "update order_stages set finished_by = 'x'",
        "copy orders (shop_id, order_gid, stage) from stdin",
        "alter function floor_sync(jsonb) security invoker",
    ],
)
def test_the_applications_role_may_not_write_stages(engine: Engine, statement: str) -> None:
    with engine.connect() as tx, pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
        tx.execute(text(statement))


def test_every_function_of_the_floor_runs_as_a_role_without_login_and_with_a_fixed_path(
    engine: Engine,
) -> None:
    found = rows(engine, FUNCTIONS)

    assert {row[0] for row in found} == set(re.findall(r"create or replace function (\w+)\(", SQL))
    assert [row for row in found if not row[1] and row[0] != "floor_allowed"] == []
    assert {row[2] for row in found} == {False}
    assert {tuple(row[3]) for row in found} == {("search_path=pg_catalog, pg_temp",)}
    assert {row[4] for row in found} == {False}


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["Ana", "Ben", "Eve"]),
        st.sampled_from(["scan", "scan", "scan", "start", "finish", "undo", "release"]),
        st.sampled_from(["", "", *STAGES]),
    ),
    max_size=25,
)


def test_stages_never_skip_and_times_never_go_back(floor: Engine) -> None:
    tokens = {name: sign_in(floor, name) for name in ("Ana", "Ben")}
    tokens["Eve"] = sign_in(floor, "Eve", Role.ADMIN)

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(MOVES)
    def check(moves: list[tuple[str, str, str]]) -> None:
        with floor.connect() as tx:
            outer = tx.begin()
            place, at = 0, None
            for name, action, stage in moves:
                values = {"token": tokens[name], "gid": GID, "scan": uuid4()}
                moved = tx.exec_driver_sql(MOVE, values | {"action": action, "stage": stage})
                found = moved.scalar_one()
                if found["code"] == "OK":
                    after = STAGES.index(found["stage_after"])
                    assert after - place == {"finish": 1, "start": 0}.get(found["action"], after - place)
                    assert after - place in (-1, 0, 1)
                    assert at is None or found["at"] >= at
                    place, at = after, found["at"]
                stored = tx.exec_driver_sql("select stage from orders").scalar_one()
                assert stored == STAGES[place]
                started = tx.exec_driver_sql(
                    "select stage, started_at, finished_at from order_stages order by started_at, finished_at"
                ).all()
                assert [row.stage for row in started] == STAGES[: len(started)]
                assert all(row.finished_at for row in started[:place])
                times = [at for row in started for at in (row.started_at, row.finished_at) if at]
                assert times == sorted(times)
            outer.rollback()

    check()
