"""Saved filters: a person's own and shared ones, who sees and changes them, and what is not saved."""

import re
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from services.accounts.people import get_person, remove_person
from services.accounts.roles import Role
from services.accounts.saved_filters import LONGEST_NAME, MAX_SAVED
from services.console.lists import LISTS
from services.core.clock import utc_now
from services.core.db import transaction
from tests.console.people import make_console, read_csrf_token, sign_in_as
from tests.console.test_details import list_audited
from tests.console.test_lists import add_shops


def send(client: FlaskClient, path: str = "/filters", **values: str) -> str:
    token = read_csrf_token(client)
    answer = client.post(path, data={"csrf_token": token, **values}, follow_redirects=True)
    assert answer.status_code == 200, answer.text
    return answer.text


def save(
    client: FlaskClient, query: str = "status=dead&shop=harbour", name: str = "dead", of: str = "work"
) -> str:
    return send(client, list=of, query=query, name=name)


def find_links(page: str) -> dict[str, str]:
    """Return the addresses of the saved filters of a page, by name."""
    shown = page.partition('aria-label="Saved filters"')[2].partition("</ul>")[0]
    return {name.strip(): url for url, name in re.findall(r'href="([^"]+)"[^>]*>([^<]+)', shown)}


def count_saved() -> int:
    with transaction() as tx:
        return int(tx.execute(text("select count(*) from saved_filters")).scalar_one())


@pytest.mark.parametrize("name", LISTS)
def test_a_person_saves_the_filters_of_a_list_and_opens_them_again(engine: Engine, name: str) -> None:
    add_shops(engine)
    client = sign_in_as(make_console(engine), Role.VIEWER)
    assert "Save these filters" not in client.get(f"/{LISTS[name].path}").text
    assert "Save these filters" in client.get(f"/{LISTS[name].path}?since=24h&shop=harbour&after=").text

    page = save(client, "since=24h&shop=harbour&after=x&until=", "a & b", name)

    assert find_links(page) == {"a &amp; b": f"/{LISTS[name].path}?shop=harbour&amp;since=24h"}
    assert 'aria-current="true">a &amp; b' in page
    assert 'aria-current="true">a &amp; b' not in client.get(f"/{LISTS[name].path}?shop=harbour").text
    assert "Save these filters" not in client.get(f"/{LISTS[name].path}?since=24h&shop=harbour").text
    assert "Save these filters" in client.get(f"/{LISTS[name].path}?shop=linden").text
    other = next(one for one in LISTS if one != name)
    assert find_links(client.get(f"/{LISTS[other].path}").text) == {}
    assert list_audited() == [("filter.save", "viewer@example.com")]


def test_others_see_a_filter_once_an_operator_of_the_fleet_shares_it(engine: Engine) -> None:
    add_shops(engine)
    operator = sign_in_as(make_console(engine), Role.OPERATOR)
    viewer = sign_in_as(make_console(engine), Role.VIEWER)
    of_linden = sign_in_as(
        make_console(engine), Role.VIEWER, shops={2: Role.OPERATOR}, email="linden@example.com"
    )
    save(operator)
    save(of_linden, "status=error", "errors")
    assert find_links(viewer.get("/work").text) == {}

    assert "operator of the fleet" in send(of_linden, "/filters/2/share")
    send(operator, "/filters/1/share")

    assert list(find_links(viewer.get("/work").text)) == ["dead"]
    assert list(find_links(of_linden.get("/work").text)) == ["errors"], "harbour is not theirs"
    assert "harbour" not in of_linden.get("/work").text
    assert "operator of the fleet" in send(viewer, "/filters/1/delete")
    assert "no saved filter 2" in send(viewer, "/filters/2/delete")
    assert "no saved filter 2" in send(operator, "/filters/2/share")
    assert count_saved() == 2
    send(operator, "/filters/1/delete")
    send(of_linden, "/filters/2/delete")
    assert count_saved() == 0
    assert [action for action, _ in list_audited()] == [
        "filter.save", "filter.save", "filter.share", "filter.delete", "filter.delete",
    ]  # fmt: skip


def test_removing_a_person_deletes_their_own_filters_and_keeps_the_shared_ones(engine: Engine) -> None:
    add_shops(engine)
    sign_in_as(make_console(engine), Role.OWNER)
    client = sign_in_as(make_console(engine), Role.OPERATOR)
    save(client)
    save(client, "status=error", "errors")
    send(client, "/filters/1/share")

    with transaction() as tx:
        remove_person(tx, get_person(tx, "operator@example.com"), by="test", now=utc_now())

    assert count_saved() == 1
    with transaction() as tx:
        assert tx.execute(text("select name from saved_filters")).scalar_one() == "dead"


@pytest.mark.parametrize(
    ("query", "name", "fault"),
    [
        ("", "a", "set a filter"), ("after=x", "a", "set a filter"), ("status=dead", " ", "name="),
        ("status=dead", "a\0b", "name="), ("status=dead", "x" * (LONGEST_NAME + 1), "name="),
        ("status=deed", "a", "status="), ("shop=lindem", "a", "shop="), ("x=1", "a", "filter"),
        ("key=" + "a" * 2000, "a", "characters"), ("key=%00", "a", "without NUL"),
        ("shop=harbour&topic=order_ingest&since=1h&text=ada", "a", "text is not saved"),
        ("shop=harbour&topic=order_ingest&since=1h&path=" + quote("$.a == 1"), "a", "path is not saved"),
        ("status=dead", "dead", "saved filter already"),
    ],
)  # fmt: skip
def test_what_cannot_be_saved_is_refused_and_named(engine: Engine, query: str, name: str, fault: str) -> None:
    add_shops(engine)
    client = sign_in_as(make_console(engine), Role.ADMIN)
    save(client)
    client.get("/work")

    token = read_csrf_token(client)
    values = {"csrf_token": token, "list": "work", "query": query, "name": name}
    client.post("/filters", data=values)

    assert fault in client.get("/account").text
    assert count_saved() == 1


def test_a_list_has_a_bound_of_filters_and_an_unknown_list_none(engine: Engine) -> None:
    add_shops(engine)
    client = sign_in_as(make_console(engine), Role.VIEWER)
    token = read_csrf_token(client)
    values = {"csrf_token": token, "list": "work", "query": "status=dead"}
    for number in range(MAX_SAVED + 1):
        client.post("/filters", data=values | {"name": str(number)})

    assert count_saved() == MAX_SAVED
    assert client.post("/filters", data=values | {"list": "users", "name": "a"}).status_code == 404
    assert client.post(f"/filters/{2**40}/delete", data=values).status_code == 404


def test_the_api_saves_shares_lists_and_deletes_as_the_page_does(engine: Engine) -> None:
    add_shops(engine)
    client = sign_in_as(make_console(engine), Role.OPERATOR)
    viewer = sign_in_as(make_console(engine), Role.VIEWER, email="v@example.com")
    headers = {"X-CSRFToken": read_csrf_token(client)}
    path = "/api/v1/saved-filters"

    def post(end: str = "", **body: object) -> TestResponse:
        return client.post(path + end, json=body, headers=headers)

    saved = post(list="work", name="dead", filters={"status": "dead", "shop": "harbour"})
    assert saved.status_code == 201, saved.text
    one = saved.get_json()
    assert client.get(path).get_json() == {"saved_filters": [one]}
    assert one["filters"] == {"shop": "harbour", "status": "dead"}
    assert "dead" in find_links(client.get("/work").text)
    assert viewer.get(path).get_json() == {"saved_filters": []}
    assert post(f"/{one['id']}/share").get_json() == {"result": "dead"}
    assert viewer.get(path).get_json() == {"saved_filters": [one | {"is_shared": True}]}
    headers_of_viewer = {"X-CSRFToken": read_csrf_token(viewer)}
    assert viewer.post(f"{path}/{one['id']}/delete", headers=headers_of_viewer).status_code == 403
    assert post(f"/{one['id']}/delete").get_json() == {"result": "dead"}
    assert post(f"/{one['id']}/delete").status_code == 422
    for wrong in (
        {"list": "wrk"},
        {"filters": {"status": "dad"}},
        {"name": ""},
        {"filters": {"text": "ada"}},
    ):
        answer = post(**({"list": "work", "name": "x", "filters": {"status": "dead"}} | wrong))
        assert answer.status_code == 422, wrong
    assert count_saved() == 0
