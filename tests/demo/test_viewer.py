"""The viewer of the demo signs in with what is printed, and may change nothing."""

from pathlib import Path

from rich.console import Console
from sqlalchemy import Engine

from services.accounts.people import get_person
from services.accounts.roles import Role
from services.core.db import transaction
from services.demo.report import print_next
from services.demo.viewer import add_viewer
from tests.console.people import make_console
from tests.console.test_sign_in import sign_in

VALUES = {
    "FLOWER_BASIC_AUTH": "fleet:x",
    "CONSOLE_PORT": "8001",
    "FLOWER_PORT": "5555",
    "INGRESS_PORT": "8000",
}


def test_the_printed_password_signs_in_as_viewer(engine: Engine, tmp_path: Path) -> None:
    viewer = add_viewer()
    out = Console(record=True, width=200)
    print_next(out, VALUES, tmp_path, tmp_path / "fleet.log", viewer)
    printed = out.export_text()

    assert f"http://localhost:8001/sign-in   email {viewer.email}, password {viewer.password}" in printed
    assert sign_in(make_console(engine), viewer.email, viewer.password).location == "/"
    with transaction() as tx:
        assert get_person(tx, viewer.email).roles == {None: Role.VIEWER}


def test_every_page_that_is_printed_opens(engine: Engine, tmp_path: Path) -> None:
    viewer = add_viewer()
    out = Console(record=True, width=200)
    print_next(out, VALUES, tmp_path, tmp_path / "fleet.log", viewer)
    client = make_console(engine)
    sign_in(client, viewer.email, viewer.password)
    words = [word for word in out.export_text().split() if word.startswith("http://localhost:8001/")]

    assert len(words) == 7
    for word in words:
        answer = client.get(word.removeprefix("http://localhost:8001"), follow_redirects=True)
        assert answer.status_code == 200, word
