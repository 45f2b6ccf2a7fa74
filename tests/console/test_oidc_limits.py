"""Single sign-on: what it may cost the console, how fresh it is, and the size of its cookie."""

import re
import socket
from collections.abc import Iterator
from threading import Thread

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from services.console.rates import SIGN_INS_PER_MINUTE
from services.core.clock import utc_now
from services.core.settings import get_settings
from tests.console.oidc_provider import Provider
from tests.console.people import make_code, make_console
from tests.console.test_oidc import HOUR, add, is_signed_in, provider, sign_in
from tests.console.test_sign_in import post

__all__ = ["provider"]


@pytest.fixture
def silent(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A provider that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        monkeypatch.setenv("OIDC_ISSUER", f"http://127.0.0.1:{server.getsockname()[1]}")
        get_settings.cache_clear()
        yield server


def is_called(server: socket.socket) -> bool:
    server.settimeout(0)
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@pytest.mark.parametrize("query", ["", "?state=", "?state=y", "?code=x&state=y", "?error=denied&state=y"])
def test_a_callback_without_a_state_of_this_browser_does_not_call_the_provider(
    engine: Engine, silent: socket.socket, query: str
) -> None:
    assert make_console(engine).get(f"/sign-in/oidc/callback{query}").location == "/sign-in"
    assert not is_called(silent)


def test_a_provider_that_does_not_answer_is_not_called_again_for_a_while(
    engine: Engine, silent: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.console.oidc._TIMEOUT_SECONDS", 0.1)
    client = make_console(engine)

    assert client.get("/sign-in/oidc").location == "/sign-in"
    assert is_called(silent)
    assert client.get("/sign-in/oidc").location == "/sign-in"
    assert not is_called(silent)


def test_two_requests_wait_for_the_provider_and_others_are_refused_at_once(
    engine: Engine, silent: socket.socket
) -> None:
    client = make_console(engine)
    clients = [client.application.test_client() for _ in range(2)]
    waiting = [Thread(target=one.get, args=("/sign-in/oidc",)) for one in clients]
    for thread in waiting:
        thread.start()
    connections = [silent.accept()[0] for _ in waiting]

    assert client.get("/sign-in/oidc").location == "/sign-in"

    assert not is_called(silent)
    for connection in connections:
        connection.close()
    for thread in waiting:
        thread.join()


@pytest.mark.parametrize("path", ["", "/callback"])
def test_single_sign_on_counts_in_the_limit_of_sign_ins(
    engine: Engine, provider: Provider, path: str
) -> None:
    client = make_console(engine)
    statuses = [client.get(f"/sign-in/oidc{path}").status_code for _ in range(SIGN_INS_PER_MINUTE + 1)]

    assert statuses == [302] * SIGN_INS_PER_MINUTE + [429]


def set_up_codes(client: FlaskClient) -> str:
    """Set up one-time codes; return their key."""
    page = post(client, "/account/codes", setup="authenticator").text
    found = re.search(r"[A-Z2-7]{4}(?:-[A-Z2-7]{4})+", page)
    form = re.search(r'action="(/account/codes/[^"]+)"', page)
    assert found and form
    key = found[0].replace("-", "")
    post(client, form[1], code=make_code(key))
    return key


@pytest.mark.parametrize(("age", "is_fresh"), [(0, True), (HOUR, False), (None, False)])
def test_a_one_time_code_does_not_make_a_sign_in_at_the_provider_newer(
    engine: Engine, provider: Provider, age: int | None, is_fresh: bool
) -> None:
    add()
    first, client = make_console(engine), make_console(engine)
    sign_in(first, provider)
    key = set_up_codes(first)
    provider.claims = {"auth_time": None if age is None else int(utc_now().timestamp()) - age}
    sign_in(client, provider)
    post(client, "/sign-in/code", code=make_code(key, 1))

    answer = post(client, "/account/tokens", name="ci", role="viewer", days="9")

    assert is_signed_in(client)
    assert ("sf_" in answer.text) == is_fresh
    assert is_fresh or answer.location == "/sign-in/again?next=/account"


@pytest.mark.parametrize("character", ["x", "é", "😀"])
def test_a_long_next_is_dropped_before_browsers_drop_the_cookie(
    engine: Engine, provider: Provider, character: str
) -> None:
    add()
    for length in (50, 3500):
        client = make_console(engine)
        answer = client.get("/sign-in/oidc", query_string={"next": "/work?key=" + character * length})
        cookies = [value for name, value in answer.headers if name == "Set-Cookie"]
        assert max(map(len, cookies)) < 4000
        back = client.get(provider.authorize(answer.location or "")).location or ""
        assert back.startswith("/work" if length == 50 else "/")
        assert (back == "/") == (length == 3500)
