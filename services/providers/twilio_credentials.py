"""The credentials of a Twilio account, as one secret. Pure."""

import re
from dataclasses import dataclass, field

from services.core.errors import Misconfigured

_CREDENTIALS = re.compile(r"(AC[0-9a-fA-F]{32}):(?:(SK[0-9a-fA-F]{32}):)?((?!SK)\S{8,})")


@dataclass(frozen=True, slots=True)
class TwilioCredentials:
    """The account, and the user and password of its calls: its auth token, or one of its API keys."""

    account: str
    user: str
    password: str = field(repr=False)


def find_credentials_fault(text: str) -> str:
    """Return why ``text`` is no secret of Twilio, or an empty text."""
    return "" if _CREDENTIALS.fullmatch(text) else "has another form"


def parse_credentials(secret: str) -> TwilioCredentials:
    """Return the parts of ``AC...:auth token`` or ``AC...:SK...:secret``; raise ``Misconfigured``."""
    match = _CREDENTIALS.fullmatch(secret)
    if match is None:
        raise Misconfigured("twilio.credentials_refused", "the secret should be like AC...:TOKEN")
    account, key, password = match.groups()
    return TwilioCredentials(account, key or account, password)
