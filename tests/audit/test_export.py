"""An export is verified without configuration, and an altered one is found."""

import gzip
import io
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from sqlalchemy import Engine

from services.audit.checkpoints import record_checkpoints
from services.audit.export import export_chains
from services.audit.queries import find_ends, list_chains
from services.audit.signing import Signer, canonical_json
from services.core.clock import utc_now
from services.core.db import transaction
from services.providers.object_store import FolderStore
from tests.audit.chains import NOW, append_chain, archive_old

SIGNER = Signer("k" * 32)


@pytest.fixture
def exported(engine: Engine, tmp_path: Path) -> Path:
    """Export of three chains, one of them with a checkpoint."""
    with transaction(engine) as tx:
        for shop_id in (1, None, 2):
            append_chain(tx, 6, shop_id)
        ends = find_ends(tx, 1)
        assert ends is not None
        record_checkpoints(tx, [(1, ends[1])], SIGNER, NOW)
        append_chain(tx, 1, 1, first=7)
    return write(engine, tmp_path)


def write(engine: Engine, folder: Path) -> Path:
    path = folder / "export.jsonl.gz"
    with transaction(engine) as tx:
        chains = list_chains(tx)
    with path.open("wb") as file, transaction(engine) as tx:
        export_chains(tx, chains, file, SIGNER, NOW)
    return path


def check(path: Path, *arguments: str) -> tuple[int, str]:
    """Verify ``path`` in a process without environment, in another folder."""
    ran = subprocess.run(
        [sys.executable, "-m", "services.audit.offline", str(path), *arguments],
        env={}, cwd=path.anchor, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return ran.returncode, ran.stdout + ran.stderr


def edit(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(change(lines))))


def test_good_export_is_verified_without_configuration(exported: Path) -> None:
    code, output = check(exported, "--public-key", SIGNER.public_key)

    assert code == 0, output
    assert "verified" in output
    assert "the fleet's chain: rows 1 to 6: verified" in output
    assert "the chain of shop 1: rows 1 to 7: verified" in output


def test_without_a_key_the_key_of_the_file_is_shown(exported: Path) -> None:
    code, output = check(exported)

    assert code == 0
    assert f"signed with {SIGNER.public_key}: compare it" in output


def test_another_key_does_not_verify_it(exported: Path) -> None:
    code, output = check(exported, "--public-key", Signer("x" * 32).public_key)

    assert code == 1
    assert "the header" in output


@pytest.mark.parametrize(
    ("change", "expected_text"),
    [
        (lambda lines: [*lines[:3], *lines[4:]], "missing: row 3 of the fleet's chain"),
        (lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], "row 3 of the fleet's chain"),
        (lambda lines: [*lines[:4], lines[3], *lines[4:]], "inserted: row 3 of the fleet's chain"),
        (lambda lines: lines[:-1], "missing: row 6 of the chain of shop 2"),
        (lambda lines: lines[:-6], "missing: row 1 of the chain of shop 2"),
        (
            lambda lines: [*lines[:9], lines[9].replace(b"ada", b"eve"), *lines[10:]],
            "altered: row 3 of the chain of shop 1",
        ),
        (
            lambda lines: [lines[0].replace(b'"last_seq":6', b'"last_seq":5', 1), *lines[1:]],
            "altered: the header",
        ),
        (
            lambda lines: [*lines, lines[-1].replace(b'"shop_id":2', b'"shop_id":3')],
            "inserted: row 0 of the chain of shop 3",
        ),
    ],
)
def test_an_altered_export_is_found(
    exported: Path, change: Callable[[list[bytes]], list[bytes]], expected_text: str
) -> None:
    edit(exported, change)

    code, output = check(exported, "--public-key", SIGNER.public_key)

    assert code == 1, output
    assert expected_text in output
    assert output.endswith("altered\n")


def test_export_of_a_rehashed_chain_contradicts_its_checkpoint(exported: Path) -> None:
    def forge(lines: list[bytes]) -> list[bytes]:
        header = orjson.loads(lines[0])
        del header["signature"]
        header["checkpoints"][0]["hash"] = "0" * 64
        return [
            canonical_json(header | {"signature": SIGNER.sign(canonical_json(header))}) + b"\n",
            *lines[1:],
        ]

    edit(exported, forge)

    code, output = check(exported)

    assert code == 1
    assert "a checkpoint of the chain of shop 1" in output
    assert "rewritten: row 6 of the chain of shop 1" in output


@pytest.mark.parametrize(
    "data",
    [b"", b"no gzip", gzip.compress(b""), gzip.compress(b"{}\n"), gzip.compress(b"[1\n")],
    ids=["nothing", "no gzip", "empty", "no header", "no JSON"],  # gzip contains the time
)
def test_file_that_is_no_export_exits_2(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)

    code, output = check(path)

    assert code == 2
    assert str(path) in output
    assert "Traceback" not in output


def test_truncated_export_exits_2_and_names_the_line(exported: Path) -> None:
    exported.write_bytes(exported.read_bytes()[:-20])

    code, output = check(exported)

    assert code == 2
    assert "cannot be read" in output


def test_a_file_of_another_text_version_is_refused_by_name(exported: Path) -> None:
    header = orjson.loads(gzip.decompress(exported.read_bytes()).splitlines()[0])
    assert header["text_version"] == 1

    edit(exported, lambda lines: [lines[0].replace(b'"text_version":1', b'"text_version":2'), *lines[1:]])

    code, output = check(exported)
    assert code == 2
    assert "its text_version is 2, this verifier supports 1" in output


def test_unchecked_signatures_are_reported_and_the_chain_is_still_verified(
    exported: Path, tmp_path: Path
) -> None:
    # Hides the package, as on a machine with only Python and orjson.
    (tmp_path / "cryptography").mkdir()
    (tmp_path / "cryptography" / "__init__.py").write_text("raise ImportError\n")
    ran = subprocess.run(
        [sys.executable, "-m", "services.audit.offline", str(exported)],
        env={"PYTHONPATH": str(tmp_path)}, cwd=os.sep, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ran.returncode == 0, ran.stderr
    assert "signatures were NOT checked" in ran.stdout
    assert "rows 1 to 7: verified" in ran.stdout


def test_the_verifier_loads_nothing_but_orjson_and_the_standard_library(exported: Path) -> None:
    code = (
        "import sys; sys.argv[1:] = [sys.argv[1]]; from services.audit.offline import main; main();"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), sep='\\n')"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-c", code, str(exported)], capture_output=True, text=True, check=True, env={}
    )

    loaded = set(ran.stdout.splitlines())
    assert "orjson" in loaded
    assert not loaded & {"sqlalchemy", "psycopg", "flask", "kombu", "celery", "boto3", "click", "dotenv"}


def test_after_archiving_an_export_begins_at_the_cut_and_the_archive_verifies_alone(
    engine: Engine, tmp_path: Path
) -> None:
    now = utc_now()
    with transaction(engine) as tx:
        append_chain(tx, 5, 1, now - timedelta(days=100))
        append_chain(tx, 2, 1, now, first=6)
    store = FolderStore(tmp_path / "store")
    archive_old(engine, 1, store, SIGNER, now)
    path = write(engine, tmp_path)

    code, output = check(path, "--public-key", SIGNER.public_key)
    assert (code, "rows 6 to 8: verified" in output) == (0, True), output
    archive = next((tmp_path / "store").rglob("*.gz"))
    code, output = check(archive)
    assert (code, "rows 1 to 5: verified" in output, "not signed" in output) == (0, True, True), output
    edit(archive_copy := _copy(archive, tmp_path), lambda lines: [*lines[:2], *lines[3:]])
    assert "missing: row 2" in check(archive_copy)[1]


def _copy(path: Path, folder: Path) -> Path:
    copy = folder / "copy.jsonl.gz"
    copy.write_bytes(path.read_bytes())
    return copy


def test_the_same_events_give_the_same_file(engine: Engine, exported: Path) -> None:
    with transaction(engine) as tx:
        chains = list_chains(tx)
    again = io.BytesIO()
    with transaction(engine) as tx:
        export_chains(tx, chains, again, SIGNER, NOW)

    assert again.getvalue() == exported.read_bytes()


def test_events_archived_during_the_export_are_still_in_it(engine: Engine, tmp_path: Path) -> None:
    class Busy(io.FileIO):
        """Archives the chain before the first byte is written."""

        def write(self, data: object) -> int:
            if not self.tell():
                archive_old(engine, 1, FolderStore(tmp_path / "store"), SIGNER, utc_now())
            return super().write(data)  # type: ignore[arg-type]

    with transaction(engine) as tx:
        append_chain(tx, 5, 1, utc_now() - timedelta(days=100))
    with Busy(str(tmp_path / "file"), "w") as file, transaction(engine) as tx:
        export_chains(tx, [1], file, SIGNER, NOW)

    code, output = check(tmp_path / "file", "--public-key", SIGNER.public_key)
    assert (code, "rows 1 to 5: verified" in output) == (0, True), output
