"""The compose file passes every setting to the fleet on one host."""

import re
from dataclasses import fields
from pathlib import Path

from services.core.settings import Settings
from services.ledger.topics import TOPICS

ROOT = Path(__file__).parents[2]

ELSEWHERE = {
    "MIGRATE_DATABASE_URL": "of the migrating container alone",
    "AUDIT_ARCHIVE_DATABASE_URL": "of the migrating container and the worker that archives",
    "BIND_ADDRESS": "of the ingress alone",
    "FLEET_HOME": "nothing is embedded there",
    "INGRESS_PORT": "the published side of it",
    "FLOWER_PORT": "the published side of it",
    "FLOWER_BROKER_API": "only RabbitMQ needs it",
    "CONSOLE_PORT": "no console is published",
    "INGRESS_WORKERS": "its default fits",
    "INGRESS_REQUESTS": "its default fits",
    "LOG_LEVEL": "its default fits",
    "SHOPIFY_API_BASE": "a stand-in",
    "STRIPE_API_BASE": "a stand-in",
    "TWILIO_API_BASE": "a stand-in",
    "QUICKBOOKS_TIME_API_BASE": "a stand-in",
    "QUO_API_BASE": "a stand-in",
    "NOTION_API_BASE": "a stand-in",
}
OF_BOTO3 = {"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"}


def passed() -> set[str]:
    """Return the names of the settings that every process gets."""
    shared = (ROOT / "docker-compose.yml").read_text().partition("\nx-worker:")[0]
    return set(re.findall(r"^    ([A-Z0-9_]+):", shared, re.MULTILINE))


def test_every_setting_reaches_every_process_of_the_compose_file() -> None:
    known = {field.name.upper() for field in fields(Settings)}

    assert passed() >= (known - set(ELSEWHERE)) | OF_BOTO3
    assert set(ELSEWHERE) <= known


def test_only_the_worker_that_archives_and_the_migration_get_the_archive_role() -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    queue = TOPICS["audit_archive"].queue

    parts = re.split(r"^  (?=[\w-]+:)", compose, flags=re.MULTILINE)
    holders = [part for part in parts if "AUDIT_ARCHIVE_DATABASE_URL:" in part]

    assert [part.partition(":")[0] for part in holders] == ["migrate", "worker-night"]
    assert re.search(rf'"-Q", "[\w,]*\b{queue}\b', holders[1])


def test_every_setting_of_the_example_environment_is_used() -> None:
    example = (ROOT / ".env.example").read_text()
    compose = (ROOT / "docker-compose.yml").read_text()

    for name in re.findall(r"^(?:# )?([A-Z0-9_]+)=", example, re.MULTILINE):
        assert f"${{{name}:" in compose, name
