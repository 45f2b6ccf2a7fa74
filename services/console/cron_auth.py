"""Checks ``CRON_SECRET``, the secret of machines that start jobs and verify the audit."""

from hmac import compare_digest

from werkzeug.datastructures import Headers

SECRET_HEADERS = ("X-Cron-Secret", "X-Internal-Secret")
_BEARER = "bearer "


def knows_secret(headers: Headers, cron_secrets: tuple[str, ...]) -> bool:
    """Return, in constant time, whether one of the three headers has one of ``cron_secrets``.

    An empty secret matches nothing.
    """
    given = [headers.get(name, "") for name in SECRET_HEADERS]
    authorization = headers.get("Authorization", "")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        given.append(authorization[len(_BEARER) :].strip())
    found = False
    for wanted in filter(None, cron_secrets):
        for candidate in given:
            # Bytes as received: text that is not ASCII cannot be compared in constant time.
            found |= compare_digest(candidate.encode("latin-1", "replace"), wanted.encode())
    return found
