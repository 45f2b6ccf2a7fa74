"""The address of RabbitMQ's management API."""

import pytest

from services.core.errors import SettingsInvalid
from services.core.rabbitmq import find_api_fault, management_api, quoted_vhost
from services.core.settings import read_settings
from tests.fakes.web import Answer, Web

ENV = {"DATABASE_URL": "postgresql://a:b@h/d", "BROKER_URL": "amqp://h", "SECRET_KEY": "k" * 32}


@pytest.mark.parametrize(
    ("broker", "api", "wanted"),
    [
        ("amqp://ada:s%40c@mq:5671/shop", "", "http://ada:s%40c@mq:15672/api/"),
        ("amqp://ada:s@[::1]:5672/shop", "", "http://ada:s@[::1]:15672/api/"),
        ("amqp://mq", "", "http://guest:guest@mq:15672/api/"),
        (
            "amqp://ada:s@mq/shop",
            "https://mq.example.com/rabbit/api",
            "https://ada:s@mq.example.com/rabbit/api/",
        ),
        ("amqp://ada:s@mq/shop", "http://flower:t@mq:1/api/", "http://flower:t@mq:1/api/"),
    ],
)
def test_management_api_has_the_given_address_or_the_default_port_and_a_user(
    broker: str, api: str, wanted: str
) -> None:
    assert management_api(broker, api) == wanted


@pytest.mark.parametrize(
    ("url", "vhost"),
    [("amqp://h", "%2F"), ("amqp://h/", "%2F"), ("amqp://h//", "%2F"), ("amqp://h/%2F", "%2F"),
     ("amqp://h/shop", "shop"), ("amqp://h/a%20b", "a%20b")],
)  # fmt: skip
def test_virtual_host_is_the_one_that_kombu_uses_quoted_once(url: str, vhost: str) -> None:
    assert quoted_vhost(url) == vhost


def test_fault_names_the_setting_that_is_missing_and_no_password() -> None:
    fault = find_api_fault("amqp://ada:hunter2@mq.invalid/shop", "")

    assert fault is not None
    seen = "FLOWER_BROKER_API is not set, and http://mq.invalid:15672/api/ does not answer"
    assert fault.what.startswith(seen)
    assert "rabbitmq-plugins enable rabbitmq_management" in fault.remedy
    assert "hunter2" not in fault.what + fault.remedy


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (401, "correct user and password of FLOWER_BROKER_API"),
        (404, "there is no virtual host shop"),
        (503, "rabbitmq-plugins enable rabbitmq_management"),
    ],
)
def test_each_answer_of_the_api_has_its_remedy_and_names_the_user(status: int, remedy: str) -> None:
    with Web(Answer(status)) as web:
        api = web.url.replace("://", "://flower:hunter2@") + "/api/"
        fault = find_api_fault("amqp://ada:hunter2@mq.invalid/shop", api)

    assert fault is not None
    assert fault.what == f"{web.url}/api/ answers {status} to the user flower"
    assert remedy in fault.remedy
    assert ("rabbitmq-plugins" in fault.remedy) == (status == 503)
    assert "hunter2" not in fault.what + fault.remedy


@pytest.mark.parametrize("api", ["mq:15672", "http://user:hunter2@mq:15672", "ftp://user:hunter2@mq/api/"])
def test_wrong_api_address_is_refused_without_its_password(api: str) -> None:
    with pytest.raises(SettingsInvalid, match="FLOWER_BROKER_API should be like http://") as fault:
        read_settings(ENV | {"FLOWER_BROKER_API": api})

    assert "hunter2" not in str(fault.value)
