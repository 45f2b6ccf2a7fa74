"""Checks of ``fleet doctor`` for people: the channels that carry alerts, the console, and who signs in."""

import socket
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from services.core.errors import WorkError
from services.core.settings import Settings
from services.fleet.doctor_check import DoctorCheck, describe_fault
from services.fleet.doctor_database import is_migrated, open_database
from services.fleet.doctor_network import check_address

if TYPE_CHECKING:
    from services.alerts.channels import Channel

_SECONDS = 5.0


def check_alerts(settings: Settings) -> Iterator[DoctorCheck]:
    """Connect to the server of each channel that is set up, and send nothing; name those that are off."""
    from services.alerts.channels import CHANNELS

    used = [channel for channel in CHANNELS.values() if channel.is_set(settings)]
    off = ", ".join(f"{one.name} ({one.setting})" for one in CHANNELS.values() if one not in used)
    for channel in used:
        yield from _check_channel(settings, channel)
    if not used:
        seen = f"no channel is set up, so nobody is sent an alert: {off}"
        remedy = "set one of them for every process (docs/alerts.md#channels), then: fleet alerts test"
        yield DoctorCheck("alerts", True, seen, remedy, is_note=True)
        return
    names = ", ".join(channel.name for channel in used)
    yield DoctorCheck("alerts", True, f"set up: {names}" + (f"; off: {off}" if off else ""))


def _check_channel(settings: Settings, channel: "Channel") -> Iterator[DoctorCheck]:
    """Yield a finding for a channel that posts over HTTP; mail has a check of its own."""
    from services.providers.alert_webhooks import find_public_target

    if channel.send is None:
        return
    url, check = str(getattr(settings, channel.setting.lower())), f"alerts by {channel.name}"
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    remedy = f"check {channel.setting}, and this machine's DNS and firewall; then: fleet alerts test"
    try:
        if channel.name != "sentry" and not settings.allow_private_urls:
            find_public_target(channel.name, url)
        with socket.create_connection((host, port), _SECONDS) as raw:
            if parts.scheme == "https":
                ssl.create_default_context().wrap_socket(raw, server_hostname=host).close()
    except WorkError as fault:
        yield DoctorCheck(check, False, f"{fault.code}: {fault.detail}", remedy)
    except (OSError, UnicodeError) as fault:
        seen = f"{host}:{port} cannot be reached: {describe_fault(fault)}"
        yield DoctorCheck(check, False, seen, remedy)
    else:
        yield DoctorCheck(check, True, f"{host}:{port} answers; nothing was sent")


def check_console(settings: Settings) -> Iterator[DoctorCheck]:
    """The address of the console has a valid certificate and reaches one, and an owner can sign in."""
    url = settings.public_console_url.rstrip("/")
    if url:
        yield from check_address("console url", url, "/livez", (200, '"alive"'))
    else:
        seen = f"PUBLIC_CONSOLE_URL is not set: people sign in at http://localhost:{settings.console_port}"
        remedy = "set it to the https:// address of the console, if people open it from other machines"
        yield DoctorCheck("console url", True, seen, remedy, is_note=True)
    if is_migrated(settings):
        yield _check_owners(settings)


def _check_owners(settings: Settings) -> DoctorCheck:
    from services.accounts.people import list_people
    from services.accounts.roles import Role

    with open_database(settings.database_url) as tx:
        people = list_people(tx)
    owners = [one for one in people if Role.OWNER in one.roles.values()]
    count = f"{len(people)} in the console, {len(owners)} as owner"
    if not owners:
        remedy = "fleet users add you@example.com --role owner (prints a link to set a password)"
        return DoctorCheck("people", True, f"{count}: nobody can sign in as owner", remedy, is_note=True)
    if not any(one.has_password or one.passkeys for one in owners):
        remedy = f"fleet users link {owners[0].email} (prints a new link)"
        return DoctorCheck("people", True, f"{count}, without a password yet", remedy, is_note=True)
    return DoctorCheck("people", True, count)
