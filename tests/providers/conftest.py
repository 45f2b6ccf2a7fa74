"""A fixed time, small changes to a signed request, and a sandbox."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import settings

from services.core.errors import WebhookRejected
from services.sandbox.serve import SandboxServer
from services.sandbox.state import SandboxState

# A shared machine may stall for longer than one example may take.
settings.register_profile("shopfleet", deadline=None, database=None)
settings.load_profile("shopfleet")


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def refusal() -> Callable[[Callable[[], object]], str]:
    """Read a webhook that must be refused, and return the reason."""

    def run(read: Callable[[], object]) -> str:
        with pytest.raises(WebhookRejected) as caught:
            read()
        assert caught.value.code == "invalid_signature"
        return str(caught.value)

    return run


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    """A sandbox on a free port with a stopped clock: buckets refill only on request."""
    import threading

    with SandboxServer(0, SandboxState(clock=lambda: 0.0)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
