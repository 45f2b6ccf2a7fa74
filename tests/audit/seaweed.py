"""A real S3 server (SeaweedFS, from its wheel) on free loopback ports."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

KEYS = {"AWS_ACCESS_KEY_ID": "tests-only-id", "AWS_SECRET_ACCESS_KEY": "tests-only-secret"}
LOCKED, PLAIN = "locked", "plain"
_PORTS = (
    "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
    "s3.port", "s3.port.grpc", "s3.port.iceberg",
)  # fmt: skip


def find_weed() -> str | None:
    """Return the path of the server, or None without the wheel."""
    packaged = Path(sys.executable).with_name("weed")
    return str(packaged) if packaged.exists() else shutil.which("weed")


@contextmanager
def seaweed(weed: str, home: Path) -> Iterator[dict[str, str]]:
    """Run the server and yield the environment that reaches it. Of its two buckets one has object lock."""
    ports = dict(zip(_PORTS, _find_ports(len(_PORTS)), strict=True))
    argv = [
        weed, "server", f"-dir={home}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3",
        "-s3.autoCreateBucket=false", "-s3.port.lance=0", "-volume.max=50", "-master.volumeSizeLimitMB=32",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]  # fmt: skip
    environment = {
        **KEYS,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3.port']}",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(argv, stdout=log, stderr=log, cwd=home, env={**os.environ, **KEYS})
    try:
        client = make_client(environment)
        _await_bucket(client, PLAIN, server, home / "log")
        client.create_bucket(Bucket=LOCKED, ObjectLockEnabledForBucket=True)
        yield environment
    finally:
        server.kill()  # a graceful stop takes 20 s
        server.wait()


def make_client(environment: dict[str, str]) -> Any:
    """Return an S3 client for calls that the product never makes."""
    return boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=20),
    )


def _await_bucket(client: Any, bucket: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until the bucket exists and accepts an object."""
    deadline = time.monotonic() + 60
    while True:
        try:
            if not any(found["Name"] == bucket for found in client.list_buckets()["Buckets"]):
                client.create_bucket(Bucket=bucket)
            client.put_object(Bucket=bucket, Key="ready", Body=b"ready")
            client.delete_object(Bucket=bucket, Key="ready")
            return
        except (BotoCoreError, ClientError) as fault:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"SeaweedFS did not start: {fault}\n{log.read_text()[-2000:]}") from fault
        time.sleep(0.1)


def _find_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for probe in held:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in held]
    finally:
        for probe in held:
            probe.close()
