"""Forms of sign-in with locks, and the form of a passkey."""

from datetime import datetime
from typing import Any

from flask import g, session
from flask_security import current_user
from flask_security.forms import (
    ChangePasswordForm,
    ForgotPasswordForm,
    LoginForm,
    TwoFactorVerifyCodeForm,
    VerifyForm,
)
from flask_security.recovery_codes import MfRecoveryCodesForm, MfRecoveryForm
from flask_security.utils import hash_password
from flask_security.webauthn import WebAuthnRegisterForm, WebAuthnSigninForm
from wtforms import HiddenField, SubmitField

from services.accounts.people import count_sign_in_failure
from services.accounts.sign_in_locks import Subject, find_lock, take_link
from services.console.sign_in_texts import MESSAGES
from services.core.clock import utc_now
from services.core.db import transaction

SIGN_IN = "sign-in"
"""Who acts, for the audit, when nobody is signed in."""
FIRST_STEP_AT = "first_step_at"
"""Key in the cookie: when the password was right, in seconds since 1970."""
PROVIDER_SIGN_IN_AT = "provider_sign_in_at"
"""Key in the cookie: when the person signed in at the provider of single sign-on; 0 is unknown."""


class _LockedForm:
    """Refuses a locked account or address before it reads the input, and counts wrong input."""

    def validate(self, **kwargs: Any) -> bool:
        form: Any = self
        subjects = [Subject("account", form.account), Subject("address", g.address)]
        with transaction() as tx:
            until = find_lock(tx, subjects, utc_now())
        if until is not None:
            form.form_errors = [describe_lock(until)]
            return False
        if super().validate(**kwargs):  # type: ignore[misc]
            return True
        if self.is_wrong():
            with transaction() as tx:
                count_sign_in_failure(
                    tx, form.account, g.address, by=SIGN_IN, now=utc_now(), request_id=g.request_id
                )
        return False

    def is_wrong(self) -> bool:
        """Return whether the input was complete, so that it counts as a failure."""
        form: Any = self
        return all(field.data for field in form if field.name in ("email", "password", "code"))


class SignInForm(_LockedForm, LoginForm):
    """Email and password. An unknown email is treated as a known one."""

    remember = None

    @property
    def account(self) -> str:
        return self.email.data or ""

    def validate(self, **kwargs: Any) -> bool:
        is_right = super().validate(**kwargs)
        if is_right:
            session.pop(PROVIDER_SIGN_IN_AT, None)
            session[FIRST_STEP_AT] = utc_now().timestamp()
        return is_right


class _SecondForm(_LockedForm):
    @property
    def account(self) -> str:
        user = getattr(self, "user", None)
        return user.email if user else ""


class CodeForm(_SecondForm, TwoFactorVerifyCodeForm):
    """A one-time code."""


class RecoveryCodeForm(_SecondForm, MfRecoveryForm):
    """A recovery code."""


class SignInAgainForm(_SecondForm, VerifyForm):
    """The password again, for a dangerous act."""


class NewPasswordForm(_LockedForm, ChangePasswordForm):
    """Another password for who is signed in and knows the present one."""

    @property
    def account(self) -> str:
        email: str = current_user.email
        return email

    def is_wrong(self) -> bool:
        return MESSAGES["INVALID_PASSWORD"][0] in self.password.errors


class ForgotForm(ForgotPasswordForm):
    """An email for a link to a new password. The answer and its time are the same for an unknown email."""

    def validate(self, **kwargs: Any) -> bool:
        if not super().validate(**kwargs):
            return False  # Flask-Security hashes a password then
        with transaction() as tx:
            is_allowed = take_link(tx, self.email.data or "", utc_now())
        if is_allowed:
            hash_password(FIRST_STEP_AT)
        else:
            self.email.errors = [MESSAGES["GENERIC_RECOVERY"][0]]
        return is_allowed


def describe_lock(until: datetime) -> str:
    minutes = max(1, round((until - utc_now()).total_seconds() / 60))
    return (
        f"Sign-in with a password is locked after too many failures. It opens again in {minutes} min. "
        "A passkey works now; a link to a new password ends the lock too."
    )


class NewCodesForm(MfRecoveryCodesForm):
    """New recovery codes. The present ones cannot be shown again."""

    show_codes = None
    generate_new_codes = SubmitField("Make 10 new codes")


class PasskeyForm(WebAuthnRegisterForm):
    """A new passkey. Each one signs in alone, without a password."""

    usage = HiddenField(default="first")
    submit = SubmitField("Add the passkey")

    def validate(self, **kwargs: Any) -> bool:
        self.usage.data = "first"
        return bool(super().validate(**kwargs))


class PasskeySignInForm(WebAuthnSigninForm):
    """Starts the sign-in with a passkey, which is found without an email."""

    identity = None
    remember = HiddenField()
