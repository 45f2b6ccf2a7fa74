"""The page and the API of a row of work list the steps of its run, with status, times and error."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from services.accounts.roles import Role
from tests.console.people import make_console, sign_in_as
from tests.conversations.notion_shop import STEPS, NotionShop, shop_with_notion
from tests.conversations.quo_events import make_call
from tests.ledger_rows import plan


@pytest.fixture
def acme(engine: Engine) -> Iterator[NotionShop]:
    with shop_with_notion(engine) as one:
        yield one


def test_every_row_of_a_run_shows_all_its_steps(acme: NotionShop) -> None:
    acme.receive(make_call())
    acme.run_to_the_end()
    viewer = sign_in_as(make_console(acme.engine), Role.VIEWER)

    ids = [number for (number,) in acme.rows("select id from work_queue order by id")]
    steps = [step for step in STEPS if step != "mail_ingest"]
    for number in ids:
        page = viewer.get(f"/work/{number}").text.partition("Steps of its workflow")[2]
        assert all(step in page for step in steps)
        assert all(f'href="/work/{other}"' in page for other in ids)
        answer = viewer.get(f"/api/v1/work/{number}").json["steps"]
        assert [(one["work_id"], one["step"]) for one in answer] == list(zip(ids, steps, strict=True))
    assert "skipped" in page


def test_a_dead_step_shows_its_error(acme: NotionShop) -> None:
    acme.control(shared=[])
    acme.receive(make_call())
    acme.run_to_the_end()
    viewer = sign_in_as(make_console(acme.engine), Role.VIEWER)

    page = viewer.get("/work/1").text.partition("Steps of its workflow")[2].partition("</table>")[0]
    assert "notion.data_source_not_shared" in page
    assert '<span class="state dead">dead</span>' in page
    (last,) = viewer.get("/api/v1/work/1").json["steps"][1:]
    assert (last["step"], last["status"]) == ("notion_find", "dead")


def test_other_work_has_no_steps(acme: NotionShop) -> None:
    (number,) = plan(acme.engine, "mail_send", 1)
    viewer = sign_in_as(make_console(acme.engine), Role.VIEWER)
    assert "Steps of its workflow" not in viewer.get(f"/work/{number}").text
    assert viewer.get(f"/api/v1/work/{number}").json["steps"] == []
