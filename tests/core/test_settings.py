"""Settings that contradict each other are refused at start, by name and without a secret."""

from pathlib import Path

import pytest

from services.core.errors import SettingsInvalid, describe_server
from services.core.settings import EXPORTED, describe_exported, get_settings, read_settings

NEEDED = {
    "DATABASE_URL": "postgresql://app:hidden@db/x",
    "MIGRATE_DATABASE_URL": "postgresql://owner:hidden@db/x",
    "BROKER_URL": "redis://:hidden@broker/0",
    "SECRET_KEY": "k" * 40,
}


def test_the_archive_role_is_optional_and_kept_out_of_the_repr() -> None:
    url = "postgresql://archive:hidden@db/x"

    assert read_settings(NEEDED).audit_archive_database_url == ""
    settings = read_settings(NEEDED | {"AUDIT_ARCHIVE_DATABASE_URL": url})
    assert settings.audit_archive_database_url == url
    assert "hidden" not in repr(settings)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://app:other@db/x", "has the role 'app' of DATABASE_URL"),
        ("postgres://app@other/y", "has the role 'app' of DATABASE_URL"),
        ("postgresql://app:hidden#1?/@db/x", "has the role 'app' of DATABASE_URL"),
        ("postgresql://%61pp:hidden@db/x", "has the role 'app' of DATABASE_URL"),
        ("postgresql://owner:hidden@db/x", "has the role 'owner' of MIGRATE_DATABASE_URL"),
        ("postgresql://db/x", "should be like postgresql://archive_role:password@host/database"),
        ("mysql://archive:hidden@db/x", "should be like postgresql://"),
    ],
)
def test_an_archive_url_of_another_role_is_refused(url: str, message: str) -> None:
    with pytest.raises(SettingsInvalid, match="AUDIT_ARCHIVE_DATABASE_URL") as caught:
        read_settings(NEEDED | {"AUDIT_ARCHIVE_DATABASE_URL": url})

    assert message in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("url", ["{scheme}://user:hid[den@host/x", "{scheme}://user:hid\u2100den@host/x"])
@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("DATABASE_URL", "postgresql"),
        ("MIGRATE_DATABASE_URL", "postgresql"),
        ("AUDIT_ARCHIVE_DATABASE_URL", "postgresql"),
        ("BROKER_URL", "redis"),
        ("SMTP_URL", "smtp"),
        ("ARCHIVE_URL", "s3"),
        ("PUBLIC_URL", "https"),
    ],
)
def test_a_url_that_cannot_be_split_is_refused_by_name_without_its_password(
    name: str, scheme: str, url: str
) -> None:
    with pytest.raises(SettingsInvalid, match=f"- {name} is not a URL: .*%5B") as caught:
        read_settings(NEEDED | {name: url.format(scheme=scheme)})

    assert "hid" not in str(caught.value)


@pytest.mark.parametrize("character", "#?/")
def test_a_password_that_ends_the_host_of_the_broker_is_refused_by_name_and_not_shown(character: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"- BROKER_URL is not a URL: .*%23 for #") as caught:
        read_settings(NEEDED | {"BROKER_URL": f"redis://user:hid{character}den@host:1234/0"})

    assert "hid" not in str(caught.value)


def test_urls_of_several_servers_are_accepted() -> None:
    several = {
        "DATABASE_URL": "postgresql://app:hidden@one:5432,two:5433/x",
        "BROKER_URL": "amqp://u:hidden@one:5672/v;amqp://u:hidden@two:5672/v",
    }

    assert read_settings(NEEDED | several).broker_url == several["BROKER_URL"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "MIGRATE_DATABASE_URL",
            "mysql://owner:hidden@db/x",
            "begins with mysql://, it should begin with postg",
        ),
        ("BROKER_URL", "kafka://hidden", "begins with kafka://, it should begin with one of redis://"),
        ("BROKER_URL", "hidden", " should begin with one of redis://"),
        ("DATABASE_URL", "postgresql://app:hidden@db:port/x", "is not a URL: its port"),
        ("BIND_ADDRESS", "localhost", "'localhost' should be an address such as 127.0.0.1"),
        ("FLEET_TIMEZONE", "America", "should be an IANA name"),
        ("FLEET_TIMEZONE", "America/Vancover", "did you mean 'America/Vancouver'?"),
        ("FLEET_TIMEZONE", "a" * 500, "should be an IANA name"),
        ("BROKER_URL", "redis://host:99999", "is not a URL"),
        ("BROKER_URL", "redis://:hidden@host:6379/abc", "the database of Redis is a number"),
        ("BROKER_URL", "rediss://:hidden@host/0/1", "the database of Redis is a number"),
        ("PUBLIC_URL", "https://host:port", "is not a URL"),
        ("INGRESS_PORT", "9" * 5000, "should be a whole number from 1 to 65535"),
        ("MAIL_RATE_PER_SECOND", "nan", "should be mails a second"),
        ("OPERATOR_EMAIL", "x", "should be one mail address"),
        ("OPERATOR_EMAIL", "a@x.io, b@x.io", "should be one mail address"),
        ("MAIL_FROM", "Shopfleet <shopfleet@>", "should be an address"),
        ("STRIPE_API_BASE", "api.stripe.com", "should be like https://"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: str, message: str) -> None:
    with pytest.raises(SettingsInvalid, match=f"- {name}.*{message}") as caught:
        read_settings(NEEDED | {name: value})

    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("postgresql://app:hid?d#en@one:5432/x?sslmode=require", "one:5432/x"),
        ("amqp://u:hidden@one:5672/v;amqp://u:hidden@two:5672/v", "one:5672/v, two:5672/v"),
        ("redis://:hidden;hidden@one:6379/0", "one:6379/0"),
        ("sentinel://:hidden@one,[::1]:7/0?master=m&sentinel_password=hidden", "one,[::1]:7/0"),
        ("redis://one:6379/0", "one:6379/0"),
    ],
)
def test_a_server_is_described_without_its_logins(url: str, server: str) -> None:
    assert describe_server(url) == server


def test_a_shell_with_the_settings_of_a_fleet_before_its_restart_gets_the_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    required = {"DATABASE_URL": "postgresql://new", "BROKER_URL": "redis://new", "SECRET_KEY": "k" * 32}
    (tmp_path / "env").write_text("".join(f"{name}={value}\n" for name, value in required.items()))
    for name, value in {
        "FLEET_HOME": str(tmp_path),
        "DATABASE_URL": "postgresql://old",
        "BROKER_URL": "redis://a-persons-own",
        EXPORTED: "DATABASE_URL FLEET_HOME",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    read = get_settings.__wrapped__()
    assert (read.database_url, read.broker_url) == ("postgresql://new", "redis://a-persons-own")

    monkeypatch.setenv(EXPORTED, "DATABASE_URL:00000000 FLEET_HOME")  # another value was printed
    assert get_settings.__wrapped__().database_url == "postgresql://old", "a person set it since"
    monkeypatch.setenv(EXPORTED, describe_exported({"DATABASE_URL": "postgresql://old"}, ["DATABASE_URL"]))
    assert get_settings.__wrapped__().database_url == "postgresql://new"

    (tmp_path / "env").unlink()  # the fleet has stopped
    monkeypatch.setenv("SECRET_KEY", "k" * 32)
    assert get_settings.__wrapped__().database_url == "postgresql://old"
