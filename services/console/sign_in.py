"""Sign-in to the console: Flask-Security's settings, the form with its locks, and what each event records."""

import base64
from datetime import timedelta
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from flask import Flask, g, request, session
from flask_login import user_logged_out
from flask_security import Security, signals
from flask_security.forms import LoginForm, TwoFactorVerifyCodeForm, VerifyForm
from flask_security.mail_util import MailUtil
from flask_security.recovery_codes import MfRecoveryForm
from flask_security.webauthn_util import WebauthnUtil
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from services.accounts.mails import plan_account_mail
from services.accounts.sessions import end_sessions, hash_token, start_session
from services.accounts.sign_in_locks import Subject, clear_failures, count_failure, find_lock
from services.audit.append import Mutation, append_change
from services.console.sign_in_pages import render_sign_in_page
from services.console.user_store import ConsoleUser, make_user_store, orm_connection
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import Settings, get_settings
from services.ledger.accept import record_work
from services.mail.outbox import record_mails

SESSION_KEY = "fleet_session"
LINK_VALID_FOR = timedelta(hours=1)
FRESH_FOR = timedelta(minutes=30)
"""A dangerous act needs a sign-in that is not older."""


def derive_key(settings: Settings, purpose: str, *, previous: bool = False) -> str:
    """Return a key for one ``purpose``, made from ``SECRET_KEY``; empty without a previous key."""
    secret = settings.secret_key_previous if previous else settings.secret_key
    return _derive(secret, purpose) if secret else ""


@cache
def _derive(secret: str, purpose: str) -> str:
    info = f"shopfleet/{purpose}/v1".encode()
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(secret.encode())
    return base64.urlsafe_b64encode(derived).decode()


def console_url(settings: Settings) -> str:
    """Return the address of the console for links in mails, without a slash at the end."""
    return settings.public_console_url.rstrip("/") or f"http://localhost:{settings.console_port}"


def init_sign_in(app: Flask, settings: Settings) -> Security:
    """Add the pages of sign-in to ``app``."""
    app.config.update(_config(settings))
    return Security(
        app,
        make_user_store(app),
        login_form=SignInForm,
        two_factor_verify_code_form=CodeForm,
        mf_recovery_form=RecoveryCodeForm,
        verify_form=SignInAgainForm,
        mail_util_cls=OutboxMailUtil,
        webauthn_util_cls=ConsoleWebauthnUtil,
        render_template=render_sign_in_page,
    )


def _config(settings: Settings) -> dict[str, Any]:
    is_https = console_url(settings).startswith("https:")
    keys = {"current": derive_key(settings, "session")}
    fallbacks = [key for key in [derive_key(settings, "session", previous=True)] if key]
    seals = [derive_key(settings, "recovery-codes"), derive_key(settings, "recovery-codes", previous=True)]
    totp = {"2": derive_key(settings, "one-time-codes")}
    if old := derive_key(settings, "one-time-codes", previous=True):
        totp = {"1": old, **totp}
    security = {
        "LOGIN_URL": "/sign-in",
        "LOGOUT_URL": "/sign-out",
        "LOGOUT_CSRF": True,
        "POST_LOGOUT_VIEW": "/sign-in",
        "RESET_URL": "/sign-in/forgot",
        "CHANGE_URL": "/account/password",
        "POST_CHANGE_VIEW": "/account",
        "VERIFY_URL": "/sign-in/again",
        "TWO_FACTOR_SETUP_URL": "/account/codes",
        "TWO_FACTOR_POST_SETUP_VIEW": "/account",
        "TWO_FACTOR_TOKEN_VALIDATION_URL": "/sign-in/code",
        "TWO_FACTOR_RESCUE_URL": "/sign-in/rescue",
        "TWO_FACTOR_SELECT_URL": "/sign-in/select",
        "MULTI_FACTOR_RECOVERY_CODES_URL": "/account/recovery-codes",
        "MULTI_FACTOR_RECOVERY_URL": "/sign-in/recovery-code",
        "WAN_REGISTER_URL": "/account/passkeys",
        "WAN_POST_REGISTER_VIEW": "/account",
        "WAN_DELETE_URL": "/account/passkeys/delete",
        "WAN_SIGNIN_URL": "/sign-in/passkey",
        "WAN_VERIFY_URL": "/sign-in/again/passkey",
        "STATIC_FOLDER_URL": "/static/flask-security",
        "RECOVERABLE": True,
        "CHANGEABLE": True,
        "TWO_FACTOR": True,
        "TWO_FACTOR_ENABLED_METHODS": ["authenticator"],
        "TWO_FACTOR_RESCUE_EMAIL": False,
        "MULTI_FACTOR_RECOVERY_CODES": True,
        "MULTI_FACTOR_RECOVERY_CODES_N": 10,
        "MULTI_FACTOR_RECOVERY_CODES_KEYS": [key.encode() for key in seals if key],
        "WEBAUTHN": True,
        "WAN_RP_NAME": "Shopfleet",
        "WAN_ALLOW_USER_HINTS": False,
        "TOTP_SECRETS": totp,
        "TOTP_ISSUER": "Shopfleet",
        "PASSWORD_HASH": "argon2",
        "PASSWORD_SCHEMES": ["argon2"],
        "PASSWORD_SINGLE_HASH": ["argon2"],
        "PASSWORD_LENGTH_MIN": 12,
        "RESET_PASSWORD_WITHIN": LINK_VALID_FOR,
        "RETURN_GENERIC_RESPONSES": True,
        "FRESHNESS": FRESH_FOR,
        "FRESHNESS_GRACE_PERIOD": timedelta(0),
        "API_ENABLED_METHODS": ["session"],
        "DATETIME_FACTORY": utc_now,
        "JOIN_USER_ROLES": False,
        "EMAIL_VALIDATOR_ARGS": {"check_deliverability": False},
        "EMAIL_HTML": False,
        "EMAIL_PLAINTEXT": False,
        "MSG_GENERIC_AUTHN_FAILED": (
            "Email or password is wrong. After 5 failures an account is locked for 15 minutes.",
            "error",
        ),
    }
    return {f"SECURITY_{name}": value for name, value in security.items()} | {
        "SECRET_KEY": keys["current"],
        "SECRET_KEY_FALLBACKS": fallbacks,
        "SESSION_COOKIE_NAME": "__Host-fleet" if is_https else "fleet",
        "SESSION_COOKIE_SECURE": is_https,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "WTF_CSRF_TIME_LIMIT": None,
    }


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
        if all(field.data for field in form if field.name in ("email", "password", "code")):
            with transaction() as tx:
                count_failure(tx, subjects, utc_now())
        return False


class SignInForm(_LockedForm, LoginForm):
    """Email and password. An unknown email is treated as a known one."""

    remember = None

    @property
    def account(self) -> str:
        return self.email.data or ""


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


def describe_lock(until: Any) -> str:
    minutes = max(1, round((until - utc_now()).total_seconds() / 60))
    return (
        f"Sign-in with a password is locked after too many failures. It opens again in {minutes} min. "
        "A passkey works now; a link to a new password ends the lock too."
    )


class OutboxMailUtil(MailUtil):
    """Sends mails of Flask-Security through the outbox, in a transaction of their own."""

    def send_mail(
        self, template: str, subject: str, recipient: Any, sender: Any, body: Any, html: Any, **kwargs: Any
    ) -> None:
        del subject, sender, body, html  # our own mail type has them
        token = kwargs.get("reset_token", "")
        link = f"{console_url(get_settings())}/sign-in/forgot/{token}" if token else ""
        mail = plan_account_mail(template.rpartition("/")[2], str(recipient), link, utc_now(), g.request_id)
        if mail is not None:
            with transaction() as tx:
                record_work(tx, record_mails(tx, [mail], utc_now()), utc_now())


class ConsoleWebauthnUtil(WebauthnUtil):
    """Passkeys belong to the public address of the console, not to the ``Host`` of a request."""

    def origin(self) -> str:
        configured = get_settings().public_console_url.rstrip("/")
        return configured or request.host_url.rstrip("/")

    def authenticator_selection(self, user: Any, usage: str) -> AuthenticatorSelectionCriteria:
        """A passkey for sign-in is found without an email, and asks for a PIN or a finger: two factors."""
        is_first = usage == "first"
        return AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED if is_first else ResidentKeyRequirement.PREFERRED,
            user_verification=self.user_verification(user, [usage]),
        )

    def user_verification(self, user: Any, usage: list[str]) -> UserVerificationRequirement:  # noqa: ARG002
        required, discouraged = UserVerificationRequirement.REQUIRED, UserVerificationRequirement.DISCOURAGED
        return required if "first" in usage else discouraged


def record_events(app: Flask) -> None:
    """Record what Flask-Security does: sessions, ended locks, and an audit entry for each event."""

    @signals.user_authenticated.connect_via(app)
    def signed_in(_app: Flask, user: ConsoleUser, authn_via: list[str] | None, **_: Any) -> None:
        tx, now = orm_connection(), utc_now()
        session[SESSION_KEY] = start_session(tx, user.id, g.address, request.user_agent.string, now)
        user.signed_in_at = now
        clear_failures(tx, Subject("account", user.email))
        how = " and ".join(authn_via or ["password", "a second factor"])
        _audit(user, "user.sign_in", f"{user.email} signed in with {how} from {g.address}")

    @user_logged_out.connect_via(app)  # type: ignore[untyped-decorator]
    def signed_out(_app: Flask, user: ConsoleUser, **_: Any) -> None:
        with transaction() as tx:
            end_sessions(tx, user.id, hash_token(session.pop(SESSION_KEY, "")))

    @signals.password_reset.connect_via(app)
    def reset(_app: Flask, user: ConsoleUser, **_: Any) -> None:
        clear_failures(orm_connection(), Subject("account", user.email))
        end_sessions(orm_connection(), user.id)
        _audit(user, "user.reset_password", f"{user.email} set a new password by a link")

    @signals.password_changed.connect_via(app)
    def changed(_app: Flask, user: ConsoleUser, **_: Any) -> None:
        _audit(user, "user.change_password", f"{user.email} changed the password")

    @signals.tf_profile_changed.connect_via(app)
    def codes_set_up(_app: Flask, user: ConsoleUser, method: str, **_: Any) -> None:
        _audit(user, "user.codes", f"{user.email} set up one-time codes by {method}")

    @signals.tf_disabled.connect_via(app)
    def codes_removed(_app: Flask, user: ConsoleUser, **_: Any) -> None:
        _audit(user, "user.codes", f"{user.email} removed the one-time codes")

    @signals.wan_registered.connect_via(app)
    def passkey_added(_app: Flask, user: ConsoleUser, name: str, **_: Any) -> None:
        _audit(user, "user.passkey", f"{user.email} added the passkey {name!r}")

    @signals.wan_deleted.connect_via(app)
    def passkey_deleted(_app: Flask, user: ConsoleUser, name: str, **_: Any) -> None:
        _audit(user, "user.passkey", f"{user.email} deleted the passkey {name!r}")

    app.extensions["shopfleet_events"] = (  # signals keep weak references
        signed_in, signed_out, reset, changed, codes_set_up, codes_removed, passkey_added, passkey_deleted,
    )  # fmt: skip


def _audit(user: ConsoleUser, action: str, summary: str) -> None:
    mutation = Mutation("users", str(user.id), summary)
    append_change(
        orm_connection(), action, {None: [mutation]}, by=user.email, now=utc_now(), request_id=g.request_id
    )
