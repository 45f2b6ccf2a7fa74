"""A person of one shop meets no other shop on any page, and no address makes an error of ours."""

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from werkzeug.routing import Rule

from services.accounts.roles import Role
from services.alerts.incidents import Incident, record_incidents
from services.audit.append import Mutation, append_change
from services.console.auth import ACCOUNT_ROUTES, PAGE_ROUTES
from services.core.clock import utc_now
from services.core.db import transaction
from services.ledger.pause import PauseScope, record_pause
from tests.console.people import make_console, read_csrf_token, sign_in_as
from tests.console.test_lists import add_rows

OTHER = "linden"
_ADD_MAIL = """
insert into mail_outbox (shop_id, dedupe_key, kind, period, recipient, subject, text, html)
values (:shop, 'k', 'owner_digest', '2026-W47', 'ada@x.example',
        case :shop when 2 then 'linden is back' else '' end, case :shop when 2 then 'linden' else '' end, '')
"""
_ADD_PERSON = """
insert into outreach_people (shop_id, external_id, email, timezone, created_at, changed_at)
values (:shop, case :shop when 2 then 'linden-7' else '7' end, 'ada@x.example', 'UTC', now(), now())
"""
_ADD_SEND = """
insert into outreach_sends (person_id, shop_id, series, step, run_id, local_day, status, created_at)
values (:shop, :shop, 'founder', case :shop when 2 then 'linden' else 'day1' end, 1, '2026-11-20', 'mailed',
        now())
"""
OWN_ACCOUNT = frozenset(name for name in ACCOUNT_ROUTES if name.startswith("account."))
_ADD_EVENT = """
insert into inbound_events (shop_id, provider, topic, delivery_key, body)
values (:shop, 'shopify', 'orders/create', cast(:shop as text), '')
"""
_ADD_BULK_ACTION = """
insert into bulk_actions (list, action, query, row_ids, shop_ids, total_count, status, reason, started_by,
                          user_id, request_key, started_at)
values ('work', 'requeue', '{}', '{1}', array[:shop], 1, 'running',
        case :shop when 2 then 'linden is back' else '' end, 'a', 1, cast(:shop as text), now())
"""
_ADD_RUN = """
insert into job_runs (job, shop_id, period, due_at, status, origin)
values ('daily-reconciliation', :shop, '2026-01-01', now(), 'done', 'beat')
"""
_ADD_ERROR = """
insert into request_errors (request_id, at, shop_id, route, status, error_class, reason, staff_label, request)
values (cast(:shop as text), now(), :shop, '/', 500, 'LookupError', '', '', '{}')
"""


def add_both_shops(engine: Engine) -> None:
    """Add a row of each list for harbour (1) and linden (2)."""
    add_rows(engine)
    now = utc_now()
    with transaction() as tx:
        for shop_id, slug in ((1, "harbour"), (2, OTHER)):
            for statement in (
                _ADD_EVENT, _ADD_RUN, _ADD_ERROR, _ADD_BULK_ACTION, _ADD_MAIL, _ADD_PERSON, _ADD_SEND
            ):  # fmt: skip
                tx.execute(text(statement), {"shop": shop_id})
            record_incidents(
                tx, [Incident(shop_id, "work_dead:x", "2026-11-29", "P2", f"{slug} is dead")], now
            )
            mutation = Mutation("shops", str(shop_id), f"set the name of {slug}")
            record_pause(tx, PauseScope(shop_id=shop_id), "hold", by=f"{slug}@example.com", now=now)
            append_change(tx, "shop.set", {shop_id: [mutation]}, by=f"{slug}@example.com", now=now)


def list_reads(app: Flask) -> list[Rule]:
    """Return the rules that a signed-in person reads."""
    read = {*PAGE_ROUTES, *OWN_ACCOUNT}
    return [
        rule for rule in app.url_map.iter_rules() if rule.endpoint in read and "GET" in (rule.methods or ())
    ]


def list_paths(client: FlaskClient) -> list[str]:
    """Return the paths of all pages and lists, with the first rows of both shops and filters of each list."""
    paths = []
    with client.application.test_request_context():
        for rule in list_reads(client.application):
            path = str(rule)
            if "<int:" in path:
                start = path.partition("<")[0]
                paths += [f"{start}{number}" for number in (1, 2, 10)]
            elif "<request_id>" in path:
                paths += [path.replace("<request_id>", one) for one in ("1", "2")]
            elif "<slug>" in path:
                paths += [path.replace("<slug>", slug) for slug in ("harbour", OTHER)]
            elif path == "/queues/<queue>":
                paths += ["/queues/inventory"]
            elif path.startswith("/jobs/<job>"):
                path = path.replace("<job>", "daily-reconciliation")
                paths += [path, *(f"{path}?act=run&shop={slug}" for slug in ("harbour", OTHER[:4]))]
            elif path == "/queues/change":
                paths += [path, *(f"{path}?act=pause&shop={slug}" for slug in ("harbour", OTHER[:4]))]
                paths += [f"{path}?act=resume&pause={number}" for number in (1, 2, 3)]
            else:
                paths += [path, f"{path}?shop=lind", f"{path}?shop=harbour", f"{path}?status=x&state=x"]
    return paths


def test_a_person_of_one_shop_reads_the_name_of_no_other_one(engine: Engine) -> None:
    add_both_shops(engine)
    client = sign_in_as(make_console(engine), Role.OWNER, shops={1: Role.OWNER})
    everybody = sign_in_as(make_console(engine), Role.VIEWER)
    paths = list_paths(client)
    assert len(paths) > 30

    assert [path for path in paths if OTHER in client.get(path).text] == []
    assert sum(OTHER in everybody.get(path).text for path in paths) > 20


OTHER_NUMBERS = (str(2**31), str(2**63 - 1))
"""Numbers that a row may have, but has not; the first is larger than an ``integer``."""
LARGE = ("0", str(2**63), "99999999999999999999", "9" * 5000, "%C2%B2", "-1")
ODD_QUERIES = (
    "q=%00&state=x", "page=-1", "page=%C2%B2", "page=" + "9" * 30, "since=999999999999d", "since=0001-01-01",
    "until=9999-12-31", "key=%00", "key=%FF", "shop=%00", "after=%00", "by=%25%27", "limit=%00",
)  # fmt: skip


def test_no_address_of_a_page_is_an_error_of_ours(engine: Engine) -> None:
    add_both_shops(engine)
    client = sign_in_as(make_console(engine), Role.OWNER)
    client.application.config["PROPAGATE_EXCEPTIONS"] = False

    for rule in list_reads(client.application):
        start, has_argument, _ = str(rule).partition("<")
        values = ("%00", "%ED%A0%80", "a" * 9000, *LARGE, *OTHER_NUMBERS) if has_argument else ()
        for path in [f"{start}{value}" for value in values] or [f"{start}?{query}" for query in ODD_QUERIES]:
            answer = client.get(path)
            assert answer.status_code in ((404,) if has_argument else (200, 302, 422)), path[:80]


@pytest.mark.parametrize("path", ["/work/{}/requeue", "/incidents/{}/ack", "/account/tokens/{}/revoke"])
def test_a_number_beyond_those_of_rows_is_not_found(engine: Engine, path: str) -> None:
    client = sign_in_as(make_console(engine), Role.OWNER)

    assert [client.post(path.format(number)).status_code for number in LARGE] == [404] * len(LARGE)


def test_no_change_of_a_row_that_is_not_there_is_an_error_of_ours(engine: Engine) -> None:
    client = sign_in_as(make_console(engine), Role.OWNER)
    client.application.config["PROPAGATE_EXCEPTIONS"] = False
    form = {"csrf_token": read_csrf_token(client), "reason": "x", "body": "{}"}
    rules = [one for one in client.application.url_map.iter_rules() if "POST" in (one.methods or ())]
    paths = [
        str(rule).replace("<int:number>", number)
        for rule in rules
        if "<int:number>" in str(rule)
        for number in OTHER_NUMBERS
    ]

    assert len(paths) > 50
    assert {path for path in paths if client.post(path, data=form).status_code >= 500} == set()
