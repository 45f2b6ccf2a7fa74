"""Email addresses of people: one form for each, however it is typed. Pure."""

import unicodedata

from email_validator import EmailNotValidError, validate_email

from services.core.errors import InputInvalid


def parse_email(typed: str) -> str:
    """Return ``typed`` in the form in which sign-in finds it; raise ``InputInvalid`` for no address."""
    try:
        return validate_email(typed.strip(), check_deliverability=False).normalized
    except EmailNotValidError as fault:
        raise InputInvalid(f"email={typed!r} should be an address such as ada@example.com: {fault}") from None


def fold_email(typed: str) -> str:
    """Return a text that is equal for all forms of an address; a text that is no address is folded too."""
    try:
        typed = parse_email(typed)
    except InputInvalid:
        typed = typed.strip()
    return unicodedata.normalize("NFKC", typed).casefold()
