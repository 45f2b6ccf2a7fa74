"""Stages are moved only by the functions of the database, in order, by the person of a session or token."""

import re
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from services.accounts.api_tokens import create_token
from services.accounts.people import find_access
from services.accounts.roles import ROLE_NAMES, Role
from services.accounts.sessions import IDLE
from services.core.clock import utc_now
from services.core.db import transaction
from services.shopfloor.transitions import REFUSALS, StageRefused, describe_answer, set_stages
from services.shops.shops import get_shop
from tests.shopfloor.floor import STAGES, read_order, read_stages, scan, sign_in
from tests.shopify.sample_payloads import ORDER, empty, rows

SQL = (Path(__file__).parents[2] / "services/schema/shop_floor.sql").read_text()
ORDERS = "select stage from orders"
UNDOS = """
select m.summary from audit_events e join audit_mutations m on m.event_id = e.id
 where e.action = 'floor.undo' order by e.id limit 1
"""
OLD_ORDER = """
insert into orders (shop_id, order_gid, name, currency, financial_status, total_cents, placed_at, updated_at)
values (1, %(gid)s, '#5', 'CAD', 'paid', 1, now(), now())
"""


def test_order_goes_through_all_stages_and_keeps_who_started_and_finished_each(floor: Engine) -> None:
    ana, ben = sign_in(floor, "Ana"), sign_in(floor, "Ben")

    codes = [scan(floor, token).code for token in (ana, ana, ben, ben, ana, ana, ben, ben)]

    assert codes == ["OK"] * 8
    assert read_stages(floor) == [
        ("Filling", "Ana", "Ana"),
        ("Covering", "Ben", "Ben"),
        ("Decorating", "Ana", "Ana"),
        ("Packing", "Ben", "Ben"),
        ("Complete", "Ben", "Ben"),
    ]
    assert rows(floor, ORDERS) == [("Complete",)]
    assert scan(floor, ana).answer["allowed"] == []


def test_wrong_order_is_invalid_stage_with_what_is_allowed(floor: Engine) -> None:
    ana = sign_in(floor, "Ana")

    early = scan(floor, ana, "finish")
    wrong = scan(floor, ana, "start", "Packing")
    scan(floor, ana, "start")
    twice = scan(floor, ana, "start")

    assert [one.code for one in (early, wrong, twice)] == ["INVALID_STAGE"] * 3
    assert early.answer["allowed"] == wrong.answer["allowed"] == ["start Filling"]
    assert twice.answer["allowed"] == ["finish Filling"]
    assert describe_answer(early.answer).endswith("finish is not possible now; allowed: start Filling")
    assert rows(floor, ORDERS) == [("Filling",)]


def test_the_same_scan_sent_again_has_one_effect_and_the_first_answer(floor: Engine) -> None:
    ana, ben, scan_id = sign_in(floor, "Ana"), sign_in(floor, "Ben"), uuid4()

    first = scan(floor, ana, scan_id=scan_id)
    again = scan(floor, ana, scan_id=scan_id)
    other = scan(floor, ben, scan_id=scan_id)

    assert first.is_new
    assert not again.is_new
    assert again.answer == first.answer
    assert other.code == "SCAN_ID_TAKEN"
    assert rows(floor, "select count(*) from stage_transitions") == [(1,)]
    assert rows(floor, "select count(*) from audit_events where action = 'floor.start'") == [(1,)]


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_each_role_may_do_what_it_says(floor: Engine, role: str) -> None:
    token = sign_in(floor, "Ana", Role[role.upper()])

    started = scan(floor, token).code
    undone = scan(floor, token, "undo").code

    assert started == ("NOT_ALLOWED" if role == "viewer" else "OK")
    assert undone == ("OK" if role in ("admin", "owner") else "NOT_ALLOWED")


def test_a_text_is_no_person_and_an_ended_session_neither(floor: Engine) -> None:
    ended = sign_in(floor, "Ana")
    idle, removed, elsewhere = (sign_in(floor, name) for name in ("Ben", "Cid", "Dan"))
    password_only = sign_in(floor, "Eve", Role.ADMIN, has_second_factor=False)
    with transaction(floor) as tx:
        for name, change in (
            ("Ana", "update user_sessions set ends_at = now() - interval '1 second' where user_id = %(id)s"),
            ("Ben", "update user_sessions set seen_at = now() - %(idle)s where user_id = %(id)s"),
            ("Cid", "update users set active = false where id = %(id)s"),
            ("Dan", "update user_roles set shop_id = 2 where user_id = %(id)s"),
        ):
            user_id = tx.exec_driver_sql("select id from users where name = %(n)s", {"n": name}).scalar_one()
            tx.exec_driver_sql(change, {"id": user_id, "idle": IDLE + timedelta(seconds=1)})

    assert {scan(floor, token).code for token in (ended, idle, removed, elsewhere, "Ana", "")} == {
        "NOT_SIGNED_IN"
    }
    assert scan(floor, password_only).code == "OK"
    assert scan(floor, password_only, "undo").code == "NOT_ALLOWED", "a password alone is no admin"
    assert rows(floor, "select count(*) from stage_transitions where action <> 'start'") == [(0,)]


def test_an_api_token_has_the_least_of_its_role_and_its_persons(floor: Engine) -> None:
    sign_in(floor, "Ana", Role.ADMIN)
    made = {}
    with transaction(floor) as tx:
        user_id = tx.exec_driver_sql("select id from users").scalar_one()
        access = find_access(tx, user_id)
        assert access is not None
        for role in (Role.FLOOR, Role.VIEWER, Role.ADMIN):
            made[role] = create_token(tx, access, "t", role, timedelta(days=1), by="test", now=utc_now())

    assert scan(floor, made[Role.VIEWER]).code == "NOT_ALLOWED"
    assert scan(floor, made[Role.FLOOR]).code == "OK"
    assert scan(floor, made[Role.FLOOR], "undo").code == "NOT_ALLOWED"
    assert scan(floor, made[Role.ADMIN], "undo").code == "OK"


def test_an_admin_takes_back_start_and_finish_and_it_is_audited(floor: Engine) -> None:
    ana, eve = sign_in(floor, "Ana"), sign_in(floor, "Eve", Role.ADMIN)
    for _ in range(8):
        scan(floor, ana)

    for expected in ("Packing", "Packing", "Decorating", "Decorating"):
        assert scan(floor, eve, "undo").code == "OK"
        assert rows(floor, ORDERS) == [(expected,)]

    assert [row[0] for row in read_stages(floor)] == ["Filling", "Covering"]
    for _ in range(4):
        scan(floor, eve, "undo")
    assert scan(floor, eve, "undo").code == "INVALID_STAGE"
    assert read_stages(floor) == []
    assert rows(floor, UNDOS) == [(f"order #{ORDER % 1000}: Complete undone by Eve, now at Packing",)]


def test_holder_finishes_and_an_operator_may_finish_for_them(floor: Engine) -> None:
    ana, ben, oli = sign_in(floor, "Ana"), sign_in(floor, "Ben"), sign_in(floor, "Oli", Role.OPERATOR)
    scan(floor, ana)

    assert scan(floor, ben, "finish").code == "STAGE_TAKEN"
    assert scan(floor, oli).code == "STAGE_TAKEN", "a scan of somebody else's order never finishes it"
    assert scan(floor, oli, "finish").code == "OK"
    assert read_stages(floor) == [("Filling", "Ana", "Oli")]


def test_order_is_assigned_only_to_people_of_the_shop(floor: Engine) -> None:
    ana = sign_in(floor, "Ana")
    sign_in(floor, "Vic", Role.VIEWER)
    ids = dict(rows(floor, "select name, id from users"))

    assert scan(floor, ana, "assign", assignee_id=ids["Vic"]).code == "UNKNOWN_PERSON"
    assert scan(floor, ana, "assign", assignee_id=10**6).code == "UNKNOWN_PERSON"
    assert scan(floor, ana, "assign", assignee_id=ids["Ana"]).answer["assignee"] == "Ana"
    with transaction(floor) as tx:
        assert read_order(tx).assignee_id == ids["Ana"]
    assert scan(floor, ana, "assign").code == "OK"


def test_order_from_before_the_floor_is_put_on_the_board_by_its_first_scan(floor: Engine) -> None:
    ana = sign_in(floor, "Ana")
    empty(floor, "work_queue")
    other = "gid://shopify/Order/5"
    with transaction(floor) as tx:
        tx.exec_driver_sql(OLD_ORDER, {"gid": other})

    assert scan(floor, ana, gid=other).code == "OK"
    assert scan(floor, ana, gid="gid://shopify/Order/6").code == "UNKNOWN_ORDER"


def test_shop_has_its_own_stages_and_open_orders_are_never_stranded(floor: Engine) -> None:
    eve, ana = sign_in(floor, "Eve", Role.ADMIN), sign_in(floor, "Ana")
    with transaction(floor) as tx:
        shop = get_shop(tx, "harbour")
        author = {"by": "eve", "now": utc_now()}
        for wanted, code in (
            (["Baking", "Complete"], "STAGE_IN_USE"),
            (["Filling"], "INVALID_STAGES"),
            (["Filling", "filling"], "INVALID_STAGES"),
            (["Filling", " Done"], "INVALID_STAGES"),
        ):
            with pytest.raises(StageRefused) as refused:
                set_stages(tx, eve, shop, wanted, **author)
            assert refused.value.code == code
        with pytest.raises(StageRefused, match="Ana may not set"):
            set_stages(tx, ana, shop, ["Filling", "Complete"], **author)
        assert set_stages(tx, eve, shop, ["Filling", "Boxing", "Sent"], **author) == STAGES

    for _ in range(4):
        assert scan(floor, ana).code == "OK"
    assert rows(floor, ORDERS) == [("Sent",)]


def test_every_code_of_the_functions_has_a_text() -> None:
    codes = set(re.findall(r"'([A-Z]+_[A-Z_]+)'", SQL))
    assert codes == set(REFUSALS)
