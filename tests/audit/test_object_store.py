"""An object store keeps objects under their names and never overwrites them."""

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from services.audit.store import ObjectExists, ObjectMissing, ObjectStore
from services.core.clock import utc_now
from services.core.errors import Misconfigured, RetryLater, SettingsInvalid
from services.core.settings import read_settings
from services.fleet.doctor import examine
from services.fleet.doctor_accounts import check_archive
from services.providers.object_store import BucketStore, FolderStore, open_store
from tests.audit.seaweed import LOCKED, PLAIN, make_client

NEEDED = {
    "DATABASE_URL": "postgresql://a@b/c",
    "BROKER_URL": "redis://a",
    "SECRET_KEY": "k" * 32,
    "FLEET_HOME": "/srv/my fleet",
}


def test_stored_object_is_read_and_listed(any_store: ObjectStore) -> None:
    any_store.put("anchors/2.json", b"two")
    any_store.put("anchors/1.json", b"one")
    any_store.put("events/shop-1/1", b"\0\xff" * 40_000)

    assert any_store.get("anchors/1.json") == b"one"
    assert any_store.get("events/shop-1/1") == b"\0\xff" * 40_000
    assert any_store.find_keys("anchors/") == ["anchors/1.json", "anchors/2.json"]
    assert any_store.find_keys("nothing/") == []
    assert len(any_store.find_keys("")) == 3


def test_no_object_is_overwritten(any_store: ObjectStore) -> None:
    any_store.put("a/b", b"first")

    with pytest.raises(ObjectExists, match=r"a/b exists already"):
        any_store.put("a/b", b"second")
    assert any_store.get("a/b") == b"first"


def test_deleted_object_is_missing_and_can_be_stored_again(any_store: ObjectStore) -> None:
    any_store.put("privacy/1.json", b"first")
    any_store.put("privacy/1.json.more", b"other")

    any_store.delete("privacy/1.json")
    any_store.delete("privacy/1.json")

    with pytest.raises(ObjectMissing):
        any_store.get("privacy/1.json")
    assert any_store.find_keys("privacy/") == ["privacy/1.json.more"]
    any_store.put("privacy/1.json", b"second")
    assert any_store.get("privacy/1.json") == b"second"


def test_delete_in_a_versioned_bucket_leaves_no_version(s3: dict[str, str]) -> None:
    store = open_store(f"s3://{LOCKED}/forgotten")
    store.put("a", b"personal")

    store.delete("a")

    left = make_client(s3).list_object_versions(Bucket=LOCKED, Prefix="forgotten/")
    assert left.get("Versions", []) + left.get("DeleteMarkers", []) == []


def test_locked_object_is_not_deleted_and_needs_a_person(s3: dict[str, str]) -> None:
    store = open_store(f"s3://{LOCKED}/kept")
    store.put("a", b"proof", utc_now() + timedelta(days=30))

    with pytest.raises(Misconfigured, match="AccessDenied"):
        store.delete("a")


def test_unknown_object_is_missing(any_store: ObjectStore) -> None:
    with pytest.raises(ObjectMissing, match="a/b does not exist"):
        any_store.get("a/b")


def test_bucket_with_object_lock_keeps_an_object_until_its_date(s3: dict[str, str]) -> None:
    until = utc_now().replace(microsecond=0) + timedelta(days=30)
    store = open_store(f"s3://{LOCKED}/guarded")

    assert store.put("a", b"kept", until) == until
    assert "with object lock" in store.describe()

    client = make_client(s3)
    head = client.head_object(Bucket=LOCKED, Key="guarded/a")
    assert (head["ObjectLockMode"], head["ObjectLockRetainUntilDate"]) == ("COMPLIANCE", until)
    assert head["Metadata"]["sha256"] == hashlib.sha256(b"kept").hexdigest()
    with pytest.raises(ClientError, match="AccessDenied"):
        client.delete_object(Bucket=LOCKED, Key="guarded/a", VersionId=head["VersionId"])
    with pytest.raises(ClientError, match="AccessDenied"):
        client.put_object_retention(
            Bucket=LOCKED, Key="guarded/a", VersionId=head["VersionId"],
            Retention={"Mode": "COMPLIANCE", "RetainUntilDate": until - timedelta(days=29)},
        )  # fmt: skip


def test_bucket_without_object_lock_reports_no_lock(s3: dict[str, str]) -> None:
    store = open_store(f"s3://{PLAIN}/free")

    assert store.put("a", b"kept", utc_now() + timedelta(days=30)) is None
    assert "without object lock" in store.describe()


def test_wrong_credentials_and_buckets_need_a_person(
    s3: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Misconfigured, match="NoSuchBucket"):
        open_store("s3://nowhere/x").put("a", b"")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-and-secret")
    with pytest.raises(Misconfigured, match=r"SignatureDoesNotMatch|AccessDenied") as caught:
        open_store(f"s3://{PLAIN}/x").get("a")
    assert "wrong-and-secret" not in str(caught.value)


def test_store_that_does_not_answer_is_retried(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(RetryLater, match="EndpointConnectionError"):
        open_store(f"s3://{PLAIN}/x").get("a")


def test_bucket_without_credentials_needs_a_person(
    s3: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(Misconfigured, match="AWS_ACCESS_KEY_ID"):
        open_store(f"s3://{PLAIN}/x").get("a")


def test_put_into_a_folder_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(tmp_path)
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))

    with pytest.raises(RetryLater, match="No space left"):
        store.put("a/b", b"half")
    assert store.find_keys("") == []
    assert list(tmp_path.rglob(".*")) == []


def test_a_file_in_a_folder_is_read_only(tmp_path: Path) -> None:
    FolderStore(tmp_path).put("a", b"kept")

    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o400


@pytest.mark.parametrize("key", ["../out", "/etc/passwd", "a/../../out"])
def test_a_key_does_not_lead_out_of_the_folder(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="is outside the store"):
        FolderStore(tmp_path / "store").put(key, b"")


def test_archive_is_a_folder_of_the_fleet_by_default(tmp_path: Path) -> None:
    store = open_store(read_settings(NEEDED).archive_url)

    assert isinstance(store, FolderStore)
    assert store.describe().startswith("file:///srv/my%20fleet/archive,")


@pytest.mark.parametrize("url", ["file:///a/b%20c", "s3://bucket", "s3://bucket/some/prefix"])
def test_stores_have_a_url(url: str) -> None:
    store = open_store(read_settings(NEEDED | {"ARCHIVE_URL": url}).archive_url)

    assert isinstance(store, BucketStore if url.startswith("s3") else FolderStore)


@pytest.mark.parametrize("url", ["file:///a/fl#e", "file:///a?b", "file:///a#", "s3://bucket/pre?fix"])
def test_archive_url_whose_path_ends_early_is_refused(url: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"ARCHIVE_URL=.* contains \? or #.* write %3F or %23"):
        read_settings(NEEDED | {"ARCHIVE_URL": url})


def test_archive_is_in_the_home_for_any_name_of_the_home(tmp_path: Path) -> None:
    home = tmp_path / "fl#e?t %41 home"
    store = open_store(read_settings(NEEDED | {"FLEET_HOME": str(home)}).archive_url)
    store.put("anchors/1", b"a head")
    assert (home / "archive" / "anchors" / "1").read_bytes() == b"a head"
    assert open_store(store.describe().partition(",")[0]).get("anchors/1") == b"a head"


@pytest.mark.parametrize(
    "url",
    ["ftp://a/b", "file://relative/b", "file:relative", "s3:///prefix", "/a/b", "s3://a b/c", "s3://a:1/b"],
)
def test_any_other_url_is_refused_with_what_is_right_at_start_and_by_doctor(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        read_settings(NEEDED | {"ARCHIVE_URL": url})
    (named,) = [
        one.seen for one in examine(NEEDED | {"ARCHIVE_URL": url}, tmp_path) if one.check == "settings"
    ]

    fault = f"- ARCHIVE_URL={url!r} should be file:///folder or s3://bucket/prefix"
    assert str(refused.value) == named == f"settings are wrong:\n  {fault}"


@pytest.mark.parametrize("url", ["s3://key:hidden@bucket/p", "s3://hidden@bucket", "ftp://a:hidden@b/c"])
def test_a_url_with_a_secret_key_is_refused_and_not_shown(tmp_path: Path, url: str) -> None:
    (fault,) = [one for one in examine(NEEDED | {"ARCHIVE_URL": url}, tmp_path) if one.check == "settings"]

    assert not fault.ok
    assert "ARCHIVE_URL contains a user or a password: should be s3://bucket/prefix, with AWS_" in fault.seen
    assert "hidden" not in str(fault)


def test_doctor_tries_a_store_and_says_whether_it_keeps_the_probe(tmp_path: Path, s3: dict[str, str]) -> None:
    client = make_client(s3)
    keeping = create_keeping_bucket(client)
    folder, plain, locked = f"file://{tmp_path}/a", f"s3://{PLAIN}/{uuid4().hex}", f"s3://{keeping}/a"
    for url, kept in ((folder, False), (plain, False), (locked, True)):
        (found,) = check_archive(read_settings(NEEDED | {"ARCHIVE_URL": url}))
        assert found.ok, found
        assert ("and kept: the store refuses to delete it" in found.seen) is kept, found
        assert open_store(url).find_keys("") == []
    (probe,) = client.list_object_versions(Bucket=keeping)["Versions"]
    assert "probe/" in probe["Key"]


def create_keeping_bucket(client: Any) -> str:
    """Return a bucket that protects every object, as R2's bucket locks do."""
    name = uuid4().hex
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
    lock = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    client.put_object_lock_configuration(Bucket=name, ObjectLockConfiguration=lock)
    return name


def test_doctor_names_a_store_that_cannot_be_used(tmp_path: Path, s3: dict[str, str]) -> None:
    (tmp_path / "file").touch()
    is_a_file = "a file is in the place of one of its folders; check ARCHIVE_URL"
    for url, why in (
        (f"file://{tmp_path}/file", is_a_file),
        (f"file://{tmp_path}/file/below", is_a_file),
        ("s3://no-such-bucket/p", "NoSuchBucket"),
    ):
        (found,) = check_archive(read_settings(NEEDED | {"ARCHIVE_URL": url}))
        assert not found.ok
        assert why in found.seen
        assert "ARCHIVE_URL" in found.remedy
        assert s3["AWS_SECRET_ACCESS_KEY"] not in found.seen + found.remedy
