"""Page requests above a number at once are answered 503, so that they do not delay webhooks."""

import asyncio
import threading

from flask import Flask

from services.core.settings import Settings
from services.ingress.rsgi import PAGES_WAITING, Gateway
from tests.ingress.rsgi import Headers, Reply, RsgiProtocol, Scope


def test_pages_beyond_the_number_at_once_are_refused_and_served_again_afterwards(settings: Settings) -> None:
    flask, goes_on = Flask("pages"), threading.Event()

    @flask.get("/slow")
    def show_slow() -> str:
        goes_on.wait(60)
        return "shown"

    gateway = Gateway(None, flask, settings)  # type: ignore[arg-type] # no webhook comes

    async def get() -> Reply:
        protocol = RsgiProtocol([])
        scope = Scope(
            method="GET", path="/slow", headers=Headers(), query_string="", server="127.0.0.1:8000",
            client="192.0.2.9:4000", scheme="http", http_version="1.1",
        )  # fmt: skip
        await gateway.serve(scope, protocol)  # type: ignore[arg-type]
        assert protocol.reply is not None
        return protocol.reply

    async def crowd() -> tuple[list[Reply], list[Reply]]:
        waiting = [asyncio.create_task(get()) for _ in range(PAGES_WAITING)]
        await asyncio.sleep(0)  # each has started and waits for a thread
        refused = [await get() for _ in range(3)]
        goes_on.set()
        return refused, list(await asyncio.gather(*waiting, get()))

    refused, shown = asyncio.run(crowd())

    assert [reply.status_code for reply in refused] == [503] * 3
    assert {reply.headers["Retry-After"] for reply in refused} == {"1"}
    assert all(reply.headers["X-Request-Id"] for reply in refused)
    assert [reply.status_code for reply in shown[:PAGES_WAITING]] == [200] * PAGES_WAITING
