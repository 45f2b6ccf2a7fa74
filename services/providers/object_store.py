"""The archive store: a folder, or a bucket of S3 or a compatible store (R2, SeaweedFS, MinIO).

Objects are written once. In a bucket with object lock they are locked in COMPLIANCE mode, so that not even
the account's owner can delete them early.
"""

import base64
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from services.audit.store import ObjectExists, ObjectMissing, ObjectStore
from services.core.errors import Misconfigured, RetryLater
from services.core.files import make_private_folder

_REFUSED = {
    "AccessDenied",
    "InvalidAccessKeyId",
    "NoSuchBucket",
    "PermanentRedirect",
    "SignatureDoesNotMatch",
}
_NO_LOCK = {"MethodNotAllowed", "NotImplemented", "ObjectLockConfigurationNotFoundError"}
"""Error codes of stores without object lock. Other errors are raised, so that nothing is stored unlocked."""

_VERSIONS = ("Versions", "DeleteMarkers")
_UNFINISHED = ".put-"
"""Begin of the name of a file until it is whole."""


def open_store(url: str) -> ObjectStore:
    """Return the store at ``file:///folder`` or ``s3://bucket/prefix``; nothing is connected yet."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return FolderStore(Path(unquote(parts.path)))
    return BucketStore(parts.netloc, parts.path.strip("/"))


class FolderStore:
    """Objects as files. Anyone with write access to the folder can delete them: use another machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, key: str, data: bytes, retain_until: datetime | None = None) -> None:  # noqa: ARG002
        """Store ``data`` durably under ``key``, whole or not at all; raise ``ObjectExists``."""
        path = self._path(key)
        with _disk_errors(path):
            make_private_folder(path.parent)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=_UNFINISHED)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                    os.fchmod(file.fileno(), 0o400)
                # A link, unlike a rename, fails if the name exists.
                os.link(name, path)
            except FileExistsError:
                raise ObjectExists(f"{path} exists already and was not changed") from None
            finally:
                with suppress(FileNotFoundError):
                    Path(name).unlink()
            _sync_folder(path.parent)

    def get(self, key: str) -> bytes:
        path = self._path(key)
        with _disk_errors(path):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                raise ObjectMissing(f"{path} does not exist") from None

    def find_keys(self, prefix: str) -> Sequence[str]:
        base = self._folder / prefix.rpartition("/")[0]
        with _disk_errors(self._folder):
            if self._folder.exists():
                next(self._folder.iterdir(), None)  # rglob ignores a folder that it cannot read
            files = (path for path in base.rglob("*") if path.is_file() and path.name[0] != ".")
            keys = (path.relative_to(self._folder).as_posix() for path in files)
            return sorted(key for key in keys if key.startswith(prefix))

    def delete(self, key: str) -> None:
        """Delete the file durably, if it exists."""
        path = self._path(key)
        with _disk_errors(path):
            try:
                path.unlink()
            except FileNotFoundError:
                return
            _sync_folder(path.parent)

    def delete_leftovers(self, before: datetime) -> int:
        """Delete the files of writes that were killed before ``before``; return how many."""
        count = 0
        with _disk_errors(self._folder):
            for path in self._folder.rglob(f"{_UNFINISHED}*"):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < before.timestamp():
                        path.unlink()
                        count += 1
        return count

    def describe(self) -> str:
        return f"{self._folder.absolute().as_uri()}, a folder: protected by its permissions alone"

    def _path(self, key: str) -> Path:
        path = self._folder / key
        if not path.resolve().is_relative_to(self._folder.resolve()):
            raise ValueError(f"key={key!r} is outside the store")
        return path


class BucketStore:
    """Objects in a bucket, each with its SHA-256 checked by the server and kept as metadata.

    Source: Amazon S3 user guide, "Locking objects with Object Lock" and "Conditional writes".
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        self._opened: Any = None
        self._has_lock: bool | None = None

    def put(self, key: str, data: bytes, retain_until: datetime | None = None) -> datetime | None:
        """Store ``data``, or raise ``ObjectExists``; return until when it is locked."""
        digest = hashlib.sha256(data)
        locked = retain_until if retain_until is not None and self._probe_lock() else None
        lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": locked} if locked else {}
        with self._errors(key):
            self._client().put_object(
                Bucket=self._bucket,
                Key=self._prefix + key,
                Body=data,
                IfNoneMatch="*",
                ChecksumSHA256=base64.b64encode(digest.digest()).decode(),
                Metadata={"sha256": digest.hexdigest()},
                **lock,
            )
        return locked

    def get(self, key: str) -> bytes:
        with self._errors(key):
            found = self._client().get_object(Bucket=self._bucket, Key=self._prefix + key)
            return bytes(found["Body"].read())

    def find_keys(self, prefix: str) -> Sequence[str]:
        with self._errors(prefix):
            pages = self._client().get_paginator("list_objects_v2")
            found = pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix)
            keys = [item["Key"] for page in found for item in page.get("Contents", ())]
        return sorted(key.removeprefix(self._prefix) for key in keys)

    def delete(self, key: str) -> None:
        """Delete the object with all its versions, if it exists.

        In a bucket with versions a plain deletion only hides an object. R2 has no versions.
        """
        name = self._prefix + key
        with self._errors(key):
            client = self._client()
            client.delete_object(Bucket=self._bucket, Key=name)
        found: list[Any] = []
        with self._errors(key), _unless_unsupported():
            pages = client.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=name)
            found = [one for page in pages for kind in _VERSIONS for one in page.get(kind, ())]
        with self._errors(key):
            for version in (one["VersionId"] for one in found if one["Key"] == name):
                client.delete_object(Bucket=self._bucket, Key=name, VersionId=version)

    def delete_leftovers(self, before: datetime) -> int:  # noqa: ARG002
        """Return 0: a bucket keeps nothing of a write that was killed."""
        return 0

    def describe(self) -> str:
        lock = "with object lock" if self._probe_lock() else "without object lock"
        return f"s3://{self._bucket}/{self._prefix.rstrip('/')}, a bucket {lock}"

    def _client(self) -> Any:
        """Return the client, created at first use: boto3 is slow to load, and most processes store nothing.

        Credentials, region and ``AWS_ENDPOINT_URL`` come from the environment, as boto3 documents.
        """
        if self._opened is None:
            from boto3.session import Session
            from botocore.config import Config

            config = Config(
                connect_timeout=5,
                read_timeout=60,
                retries={"total_max_attempts": 3, "mode": "standard"},
                # Not all stores support the checksums that newer clients add.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            )
            region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
            self._opened = Session().client("s3", config=config, region_name=region)
        return self._opened

    def _probe_lock(self) -> bool:
        """Return whether the bucket locks objects. R2 has no such call."""
        if self._has_lock is None:
            rule: dict[str, Any] = {}
            with self._errors("?object-lock"), _unless_unsupported():
                found = self._client().get_object_lock_configuration(Bucket=self._bucket)
                rule = found.get("ObjectLockConfiguration", {})
            self._has_lock = rule.get("ObjectLockEnabled") == "Enabled"
        return self._has_lock

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        where = f"s3://{self._bucket}/{self._prefix}{key}"
        try:
            yield
        except ClientError as fault:
            code = _get_code(fault)
            if code in ("PreconditionFailed", "412"):
                raise ObjectExists(f"{where} exists already and was not changed") from None
            if code in ("NoSuchKey", "404"):
                raise ObjectMissing(f"{where} does not exist") from None
            if code in _REFUSED:
                hint = "check ARCHIVE_URL, AWS_ACCESS_KEY_ID and its rights"
                raise Misconfigured("archive.refused", f"{where}: the store answers {code}; {hint}") from None
            raise RetryLater("archive.unavailable", f"{where}: the store answers {code}") from None
        except NoCredentialsError:
            missing = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set"
            raise Misconfigured("archive.no_credentials", f"{where}: {missing}") from None
        except BotoCoreError as fault:
            raise RetryLater("archive.unavailable", f"{where}: {type(fault).__name__}") from None


def _get_code(fault: Any) -> str:
    return str(fault.response.get("Error", {}).get("Code", "?"))


@contextmanager
def _unless_unsupported() -> Iterator[None]:
    """Ignore the error of a call that a store without versions or object lock does not support."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as fault:
        if _get_code(fault) not in _NO_LOCK:
            raise


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, NotADirectoryError):
        why = f"{path}: a file is in the place of one of its folders; check ARCHIVE_URL"
        raise Misconfigured("archive.refused", why) from None
    except PermissionError as fault:
        raise Misconfigured("archive.refused", f"{path}: {fault.strerror}; check ARCHIVE_URL") from None
    except OSError as fault:
        why = f"{path}: {fault.strerror or fault}; check ARCHIVE_URL"
        raise RetryLater("archive.unavailable", why) from None


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
