"""Phone numbers and mail addresses of conversations, in the one form in which they are compared. Pure."""

import re
from collections.abc import Iterable
from email.utils import parseaddr

from services.core.setting_urls import is_full_address

_PHONE = re.compile(r"\+?[0-9]{3,15}")
_SEPARATORS = re.compile(r"[\s().\-/]")


def normalize_phone(text: object) -> str:
    """Return a phone number as ``+15550000002``, or an empty text for a caller without a number."""
    plain = _SEPARATORS.sub("", text) if isinstance(text, str) else ""
    return plain if _PHONE.fullmatch(plain) else ""


def normalize_mail(text: object) -> str:
    """Return the mail address in ``text``, such as ``Ada <Ada@Example.com>``, in lower case, or ``""``."""
    address = parseaddr(text)[1].strip().lower() if isinstance(text, str) else ""
    return address if is_full_address(address) else ""


def is_mail(address: str) -> bool:
    return "@" in address


def normalize_all(texts: Iterable[object]) -> list[str]:
    """Return the phone numbers and mail addresses among ``texts``, each once, in order."""
    found = (normalize_mail(one) if "@" in str(one) else normalize_phone(one) for one in texts)
    return list(dict.fromkeys(filter(None, found)))
