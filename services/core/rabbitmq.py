"""RabbitMQ's management API, from which Flower reads the lengths of queues."""

import re
from urllib.parse import quote, unquote, urlsplit

from services.core.server_fault import ServerFault

API_NEEDED = (
    "run `rabbitmq-plugins enable rabbitmq_management`, give the broker's user the tag `management` "
    "(`rabbitmqctl set_user_tags USER management`), and set "
    "FLOWER_BROKER_API=http://user:password@host:15672/api/"
)

_REMEDIES = {
    401: (
        "correct user and password of {setting}, or give the user its tag and rights: rabbitmqctl "
        "set_user_tags {user} management, and set_permissions -p {vhost} {user} ...; keep its other tags"
    ),
    404: "there is no virtual host {vhost}: correct the end of BROKER_URL, or rabbitmqctl add_vhost {vhost}",
}
"""What to do about an answer, by its status; any other is that of another server or plug-in."""


def management_api(broker_url: str, api_url: str) -> str:
    """Return ``api_url`` (FLOWER_BROKER_API) with a user and a slash at its end.

    If it is empty: port 15672, the plug-in's default, of the first broker. Without a user, the broker's.
    """
    login, _, address = urlsplit(broker_url.partition(";")[0]).netloc.rpartition("@")
    host = re.sub(r":\d*$", "", address) or "localhost"
    parts = urlsplit(api_url or f"http://{host}:15672/api/")
    if not parts.username:
        parts = parts._replace(netloc=f"{login or 'guest:guest'}@{parts.netloc}")
    return parts.geturl().rstrip("/") + "/"


def quoted_vhost(broker_url: str) -> str:
    """Return the virtual host of ``broker_url`` as the management API expects it: ``%2F`` for the default."""
    return quote(unquote(urlsplit(broker_url.partition(";")[0]).path[1:]) or "/", safe="")


def find_api_fault(broker_url: str, api_url: str) -> ServerFault | None:
    """Return why Flower cannot read the queues' lengths, or None if it can; waits up to 3 s."""
    import httpx

    api = management_api(broker_url, api_url)
    parts = urlsplit(api)
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    default = "" if api_url else "FLOWER_BROKER_API is not set, and "
    try:
        status = httpx.get(f"{api}queues/{quoted_vhost(broker_url)}", timeout=3.0).status_code
    except httpx.HTTPError as fault:
        return ServerFault(f"{default}{shown} does not answer ({type(fault).__name__})", API_NEEDED)
    if status == httpx.codes.OK:
        return None
    values = {"user": unquote(parts.username or ""), "vhost": unquote(quoted_vhost(broker_url))}
    values["setting"] = "FLOWER_BROKER_API" if urlsplit(api_url).username else "BROKER_URL"
    seen = f"{default}{shown} answers {status} to the user {values['user']}"
    return ServerFault(seen, _REMEDIES.get(status, API_NEEDED).format(**values))
