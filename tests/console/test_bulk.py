"""Pages of bulk actions: the count is shown first, and one confirmation starts one action."""

import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from services.accounts.roles import Role
from services.console import list_reader
from services.core.db import transaction
from tests.bulk.test_chunks import run
from tests.console.people import make_console, sign_in_as
from tests.console.test_lists import add_rows, add_shops
from tests.ledger_rows import accept, new_event

NEW = "/bulk-actions/new?list=work&action=requeue"


def read_fields(page: str) -> dict[str, str]:
    """Return the hidden fields of the form that starts the action."""
    form = page.partition('action="/bulk-actions"')[2].partition("</form>")[0]
    return dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form))


def select_all(query: str) -> list[tuple[Any, ...]]:
    with transaction() as tx:
        return [tuple(row) for row in tx.execute(text(query))]


def start(client: FlaskClient, path: str = f"{NEW}&status=dead", **changes: str) -> Any:
    fields = read_fields(client.get(path).text)
    return client.post("/bulk-actions", data={**fields, "reason": "provider is back", **changes})


def test_the_exact_count_is_shown_before_anything_changes(engine: Engine) -> None:
    add_rows(engine)
    client = sign_in_as(make_console(engine), Role.OPERATOR)

    page = client.get(f"{NEW}&status=dead,done").text

    assert "<b>4 rows</b> will be requeued." in re.sub(r"\s+", " ", page)
    assert "4 (its status is done)" in page
    assert re.findall(r'<th scope="row">(\w+)</th><td class="number">(\d+)', page) == [
        ("harbour", "3"), ("linden", "1"), ("order_ingest", "4"), ("dead", "4"),
    ]  # fmt: skip
    assert select_all("select count(*) from bulk_actions") == [(0,)]


def test_a_list_offers_its_actions_for_what_a_filter_matches(engine: Engine) -> None:
    add_rows(engine)
    viewer = sign_in_as(make_console(engine), Role.VIEWER)
    operator = sign_in_as(make_console(engine), Role.OPERATOR)

    page = operator.get("/work?status=dead&shop=harbour").text
    assert "On all rows that match (3)" in page
    assert re.findall(r'name="action" value="(\w+)"', page) == ["requeue", "discard", "unlock"]
    for client, path in ((operator, "/work"), (operator, "/work?shop=harbour&status=pending"),
                         (viewer, "/work?status=dead"), (operator, "/runs?status=done")):  # fmt: skip
        assert 'name="action" value="requeue"' not in client.get(path).text, path


def test_a_confirmed_action_runs_and_shows_its_result(engine: Engine) -> None:
    add_rows(engine)
    client = sign_in_as(make_console(engine), Role.OPERATOR)

    answer = start(client, f"{NEW}&status=dead,done&since=2h")
    assert answer.location == "/bulk-actions/1"
    page = client.get("/bulk-actions/1").text
    assert 'hx-trigger="every 2s"' in page
    assert "Done: 0 of 4 rows" in page
    run(engine)

    page = client.get("/bulk-actions/1").text
    assert "Done: 4 of 4 rows: 4 changed, 4 skipped" in page
    assert "hx-trigger" not in page
    assert "its status is done" in page
    assert "provider is back" in client.get("/bulk-actions").text
    counted = select_all("select status, count(*) from work_queue where topic <> 'bulk_action' group by 1")
    assert sorted(counted) == [("done", 4), ("error", 2), ("pending", 4)]
    reasons = select_all(
        "select staff_label, action, mutations from audit_events where action = 'work.requeue'"
    )
    assert {row[0] for row in reasons} == {"operator@example.com"}
    assert all("bulk action 1: provider is back" in row[2] for row in reasons)


def test_a_repeated_confirmation_starts_one_action(engine: Engine) -> None:
    add_rows(engine)
    client = sign_in_as(make_console(engine), Role.OPERATOR)
    fields = {**read_fields(client.get(f"{NEW}&status=dead").text), "reason": "a"}

    first = client.post("/bulk-actions", data=fields)
    run(engine)
    again = client.post("/bulk-actions", data=fields)

    assert first.location == again.location == "/bulk-actions/1"
    assert select_all("select count(*) from bulk_actions") == [(1,)]


@pytest.mark.parametrize(
    ("path", "changes", "fault"),
    [
        (f"{NEW}&status=dead", {"reason": " "}, "reason is empty"),
        (f"{NEW}&status=dead", {"at_most": "3"}, "4 rows would be requeued now, not the 3 shown"),
        (f"{NEW}&status=dead", {"at_most": "x"}, "at_most="),
        (f"{NEW}&status=dead", {"request_key": ""}, "request_key should have"),
        (f"{NEW}&status=dead", {"action": "replay"}, "action=&#39;replay&#39; should be one of"),
        (f"{NEW}&status=dead", {"list": "runs"}, "list=&#39;runs&#39; should be one of"),
        (f"{NEW}&status=dead", {"status": ""}, "no filter is given"),
        (f"{NEW}&status=dead", {"status": "deed"}, "status=&#39;deed&#39;"),
        (f"{NEW}&status=dead", {"status": "done"}, "no row can be requeued (4: its status is done)"),
    ],
)  # fmt: skip
def test_a_start_that_is_not_as_confirmed_is_refused(
    engine: Engine, path: str, changes: dict[str, str], fault: str
) -> None:
    add_rows(engine)
    client = sign_in_as(make_console(engine), Role.OPERATOR)

    answer = start(client, path, **changes)

    assert answer.status_code == 422
    assert fault in answer.text
    assert select_all("select count(*) from bulk_actions") == [(0,)]


def test_a_search_beyond_the_bound_is_refused(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    add_rows(engine)
    client = sign_in_as(make_console(engine), Role.OPERATOR)
    monkeypatch.setattr(list_reader, "MAX_CANDIDATES", 3)

    answer = client.get(f"{NEW}&status=dead")

    assert answer.status_code == 422
    assert "narrow it by shop, topic, status, since, until" in answer.text


def add_dead(count: int, shop_id: int, status: str = "dead") -> None:
    with transaction() as tx:
        tx.execute(
            text(
                "insert into work_queue (shop_id, queue, topic, key, status) "
                "select :shop, 'webhooks', 'refund_ingest', 'x' || n, :status "
                "from generate_series(1, :count) n"
            ),
            {"shop": shop_id, "status": status, "count": count},
        )


@pytest.mark.parametrize("status", ["dead", "error"])
def test_rows_that_do_not_match_do_not_count_against_the_bound(engine: Engine, status: str) -> None:
    add_rows(engine)
    add_dead(50_001, 2, status)
    client = sign_in_as(make_console(engine), Role.OPERATOR)
    own = sign_in_as(make_console(engine), Role.OPERATOR, email="a@example.com", shops={1: Role.OPERATOR})
    count = 3 if status == "dead" else 2
    path = f"{NEW}&status={status}"

    assert client.get(path).status_code == 422
    for more in ("shop=harbour", "topic=order_ingest&shop=harbour&since=1h", "key=x7", "error_code=a.b"):
        assert client.get(f"{path}&{more}").status_code == 200, more
    for browser, query in ((client, f"{path}&shop=harbour"), (own, path)):
        assert f"<b>{count} rows</b>" in browser.get(query).text


def test_as_many_rows_as_the_bound_are_accepted_and_the_newest_are_listed(engine: Engine) -> None:
    add_rows(engine)
    client = sign_in_as(make_console(engine), Role.OPERATOR)
    add_dead(49_996, 2)

    assert "<b>50,000 rows</b>" in client.get(f"{NEW}&status=dead").text
    add_dead(5, 1)
    assert client.get(f"{NEW}&status=dead").status_code == 422
    page = client.get("/work?status=dead").text
    assert "newest 50,000" in page
    assert "/work/50011" in page, "the newest of all"


@pytest.mark.parametrize(
    "extra", ["endpoint=x", "_method=DELETE", "_external=1", "_anchor=a", "self=1", "name=1"]
)
def test_an_unknown_filter_is_refused_by_name_and_is_in_no_link(engine: Engine, extra: str) -> None:
    add_rows(engine)
    client = sign_in_as(make_console(engine), Role.OPERATOR)

    for path in (f"{NEW}&status=dead", f"{NEW}", "/work?status=dead"):
        answer = client.get(f"{path}&{extra}")
        assert answer.status_code == 422
        assert extra.partition("=")[0] in answer.text


def test_shops_without_the_role_are_left_out_and_their_actions_are_closed(engine: Engine) -> None:
    add_rows(engine)
    mixed = sign_in_as(
        make_console(engine), Role.VIEWER, email="a@example.com", shops={1: Role.OPERATOR, 2: Role.VIEWER}
    )
    other = sign_in_as(make_console(engine), Role.VIEWER, email="b@example.com", shops={2: Role.OWNER})
    viewer = sign_in_as(make_console(engine), Role.VIEWER)

    assert "1 (the person is no operator at the shop)" in mixed.get(f"{NEW}&status=dead").text
    assert start(mixed).location == "/bulk-actions/1"
    run(engine)

    states = select_all("select distinct shop_id, status from work_queue where key like 'dead%'")
    assert sorted(states) == [(1, "pending"), (2, "dead")]
    assert other.get("/bulk-actions/1").status_code == other.get("/bulk-actions/2").status_code == 404
    assert "provider is back" not in other.get("/bulk-actions").text
    assert viewer.get(NEW).status_code == 403
    page = viewer.get("/bulk-actions/1")
    assert page.status_code == 200
    assert "Stop" not in page.text.partition("<main")[2].partition("What was chosen")[0]


def test_an_operator_stops_an_action_and_nobody_else(engine: Engine) -> None:
    add_rows(engine)
    client = sign_in_as(make_console(engine), Role.OPERATOR)
    mixed = sign_in_as(
        make_console(engine), Role.VIEWER, email="a@example.com", shops={1: Role.OWNER, 2: Role.VIEWER}
    )
    start(client)

    def stop(browser: FlaskClient) -> Any:
        token = read_fields_of_stop(browser)
        return browser.post("/bulk-actions/1/stop", data={"csrf_token": token}, follow_redirects=True)

    assert stop(mixed).status_code == 403
    assert "The action is stopped." in stop(client).text
    assert "The action had ended already." in stop(client).text
    run(engine)
    assert select_all("select status, error, changed_count from bulk_actions") == [
        ("stopped", "stopped by operator@example.com", 0)
    ]


def read_fields_of_stop(client: FlaskClient) -> str:
    return client.get("/bulk-actions/1").text.split('name="csrf_token" value="', 1)[1].split('"', 1)[0]


def test_text_of_payloads_is_searched_by_an_admin_and_not_kept(engine: Engine) -> None:
    add_rows(engine)
    client = sign_in_as(make_console(engine), Role.ADMIN)

    path = f"{NEW}&shop=harbour&topic=order_ingest&since=1h&status=dead&text=Ada@Example"
    assert start(client, path).location == "/bulk-actions/1"

    kept = select_all("select query, reason from bulk_actions") + select_all(
        "select mutations from audit_events"
    )
    assert len(kept) > 2
    assert "ada@example" not in str(kept).lower()
    assert "(not kept)" in client.get("/bulk-actions/1").text


def test_a_replay_leaves_out_replays_and_edits_unless_the_origin_names_them(engine: Engine) -> None:
    add_shops(engine)
    accept(engine, new_event(1, topic="customers/update", body=b'{"id":1}'))
    client = sign_in_as(make_console(engine), Role.OPERATOR)
    path = "/bulk-actions/new?list=events&action=replay&topic=customers/update"

    for count in (2, 3):
        start(client, path)
        run(engine)
        assert select_all("select count(*) from inbound_events") == [(count,)]
    assert "2 (its origin is replay)" in client.get(path).text
    start(client, f"{path}&origin=replay")
    run(engine)
    assert select_all("select count(*) from inbound_events") == [(5,)]


def test_a_result_counts_rows_of_shops_where_it_changes_nothing(engine: Engine) -> None:
    add_rows(engine)
    mixed = sign_in_as(
        make_console(engine), Role.VIEWER, email="a@example.com", shops={1: Role.OPERATOR, 2: Role.VIEWER}
    )
    start(mixed)
    run(engine)
    reader = sign_in_as(make_console(engine), Role.VIEWER, email="b@example.com", shops={1: Role.VIEWER})

    assert reader.get("/work/10").status_code == 404
    for path in ("/bulk-actions/1", "/api/v1/bulk-actions/1"):
        page = reader.get(path).text
        assert "the person is no operator at the shop, at other shops" in page
        assert "1 row" in page
    assert select_all("select skipped_count from bulk_actions") == [(1,)]
