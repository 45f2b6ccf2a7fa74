"""Failures are named by what happens next. Only ``services.providers`` decides which one an answer is."""

from datetime import timedelta


class ShopfleetError(Exception):
    """Something a person can read: says what is wrong, and what would be right."""


class SettingsInvalid(ShopfleetError):
    """One or more settings are wrong. The message lists every fault, never a secret's value."""


class Rejected(ShopfleetError):
    """The sender is wrong (bad signature, too old). Nothing is stored; a counter goes up."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(detail or code)
        self.code = code


class WorkError(ShopfleetError):
    """An outcome of work that is not ``Done``. ``code`` is a stable slug such as ``shopify.throttled``."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(detail or code)
        self.code = code
        self.detail = detail or code


class RetryLater(WorkError):
    """Nothing happened, and it may work later. ``wait`` is what the provider asked for, if it did."""

    def __init__(self, code: str, detail: str = "", *, wait: timedelta | None = None) -> None:
        super().__init__(code, detail)
        self.wait = wait


class NotYet(RetryLater):
    """It was not tried, as its turn has not come: no try is counted, and ``wait`` is how long it waits on."""


class OutcomeUnknown(WorkError):
    """We sent it and never heard back: it may have happened.

    Try again only under the same idempotency key, or look first.
    """


class Refused(WorkError):
    """Understood and declined. Trying again as it stands cannot help; a person decides."""


class Misconfigured(WorkError):
    """Our credential or mapping is wrong. A person must correct it before the work can go on.

    ``is_partial``: the credential is good and lacks the permission for this one thing.
    """

    def __init__(self, code: str, detail: str = "", *, is_partial: bool = False) -> None:
        super().__init__(code, detail)
        self.is_partial = is_partial
