"""Sign-in to the console: Flask-Security with our forms, mails and passkeys, and what each event records."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import orjson
from flask import Flask, Response, after_this_request, flash, g, redirect, request, session, url_for
from flask_login import user_logged_out
from flask_security import Security, current_user, signals
from flask_security.mail_util import MailUtil
from flask_security.recovery_codes import MfRecoveryCodesUtil
from flask_security.tf_plugin import tf_clean_session
from flask_security.totp import Totp
from flask_security.webauthn_util import WebauthnUtil
from passlib.exc import UsedTokenError
from sqlalchemy import Connection
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from services.accounts.mails import record_account_mail
from services.accounts.people import end_access, format_ended, use_code
from services.accounts.sessions import (
    end_sessions,
    find_session,
    hash_token,
    is_new_address,
    start_session,
)
from services.accounts.sign_in_locks import Subject, clear_failures
from services.audit.append import Mutation, append_change
from services.console.answers import json_error
from services.console.sign_in_forms import (
    FIRST_STEP_AT,
    PROVIDER_SIGN_IN_AT,
    CodeForm,
    ForgotForm,
    NewCodesForm,
    NewPasswordForm,
    PasskeyForm,
    PasskeySignInForm,
    RecoveryCodeForm,
    SignInAgainForm,
    SignInForm,
)
from services.console.sign_in_pages import notice_left_set_up, render_sign_in_page
from services.console.sign_in_settings import console_url, sign_in_settings
from services.console.sign_in_texts import HAS_SECOND_FACTOR, SECOND_STEP_LATE
from services.console.user_store import ConsoleUser, lock_console_user, make_user_store, orm_connection
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction
from services.core.settings import Settings, get_settings

SESSION_KEY = "fleet_session"
SECOND_FACTOR = "a second factor"
"""How a person signed in, for the audit, if more than a password or single sign-on alone."""
SECOND_STEP_WITHIN = timedelta(minutes=10)
"""A right password waits for the second factor for this time."""
_SECOND_STEPS = frozenset(
    f"security.{name}"
    for name in (
        "two_factor_setup",
        "two_factor_token_validation",
        "two_factor_rescue",
        "tf_select",
        "mf_recovery",
        "wan_signin_response",
    )
)


def init_sign_in(app: Flask, settings: Settings) -> Security:
    """Add the pages of sign-in to ``app``."""
    app.config.update(sign_in_settings(settings))

    app.before_request(_check_json)
    app.before_request(notice_left_set_up)
    app.before_request(_check_second_step)
    return Security(
        app,
        make_user_store(app),
        login_form=SignInForm,
        forgot_password_form=ForgotForm,
        change_password_form=NewPasswordForm,
        two_factor_verify_code_form=CodeForm,
        mf_recovery_form=RecoveryCodeForm,
        mf_recovery_codes_form=NewCodesForm,
        verify_form=SignInAgainForm,
        wan_register_form=PasskeyForm,
        wan_signin_form=PasskeySignInForm,
        mail_util_cls=OutboxMailUtil,
        mf_recovery_codes_util_cls=RecoveryCodes,
        webauthn_util_cls=ConsoleWebauthnUtil,
        render_template=render_sign_in_page,
        totp_cls=OneTimeCodes,
    )


def _check_json() -> Any:
    """Refuse a JSON body that is no form: Flask-Security fails on it."""
    if request.blueprint != "security" or not request.is_json or not request.content_length:
        return None
    try:
        body = orjson.loads(request.get_data())  # refuses halves of characters and deep nesting
    except orjson.JSONDecodeError:
        body = None
    is_form = isinstance(body, dict) and all(isinstance(one, str | bool | None) for one in body.values())
    return None if is_form else json_error(400, "bad_request", "send a JSON object of texts")


def _check_second_step() -> Any:
    """Refuse a second step that is late, or that would set up codes of a person with a second factor.

    The person is locked until the request ends, so that of parallel requests one uses a code.
    """
    if request.endpoint == "security.wan_signin":
        # A passkey is enough: Flask-Security else takes it as the second factor of a typed password.
        session.pop("tf_state", None)
    if request.endpoint not in _SECOND_STEPS or "tf_state" not in session or current_user.is_authenticated:
        return None
    user = lock_console_user(session.get("tf_user_id", ""))
    age = timedelta(seconds=utc_now().timestamp() - session.get(FIRST_STEP_AT, 0))
    page, fault = "security.login", ""
    if age > SECOND_STEP_WITHIN:
        fault = SECOND_STEP_LATE
    elif session["tf_state"] != "ready" and user is not None and (user.tf_totp_secret or user.webauthn):
        page = "security.login" if user.tf_totp_secret else "security.wan_signin"
        fault = HAS_SECOND_FACTOR
    if not fault:
        return None
    end_second_step: Callable[[], None] = tf_clean_session
    end_second_step()
    flash(fault, "error")
    return redirect(url_for(page))


class OutboxMailUtil(MailUtil):
    """Sends mails of Flask-Security through the outbox, in a transaction of their own."""

    def send_mail(
        self, template: str, subject: str, recipient: Any, sender: Any, body: Any, html: Any, **kwargs: Any
    ) -> None:
        del subject, sender, body, html  # our own mail type has them
        token = kwargs.get("reset_token", "")
        link = f"{console_url(get_settings())}/sign-in/forgot/{token}" if token else ""
        _mail(str(recipient), template.rpartition("/")[2], link)


class RecoveryCodes(MfRecoveryCodesUtil):
    """Recovery codes, with an audit entry and a mail for new ones and for a used one."""

    def create_recovery_codes(self, user: Any) -> list[str]:
        _audit(user, "user.codes", f"{user.email} made new recovery codes")
        _mail(user.email, "recovery_codes")
        return list(super().create_recovery_codes(user))

    def delete_recovery_code(self, user: Any, code: str) -> bool:
        _audit(user, "user.codes", f"{user.email} used a recovery code")
        _mail(user.email, "recovery_code_used")
        return bool(super().delete_recovery_code(user, code))


class OneTimeCodes(Totp):
    """One-time codes that work once, in all processes."""

    def get_last_counter(self, user: Any) -> int | None:
        step: int | None = user.last_code_step
        return step

    def set_last_counter(self, user: Any, tmatch: Any) -> None:
        if not use_code(orm_connection(), user.id, tmatch.counter):
            raise UsedTokenError


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
        provider_at = session.pop(PROVIDER_SIGN_IN_AT, None)
        if provider_at is not None and "webauthn" not in (authn_via or ()):
            session["fs_paa"] = provider_at  # a one-time code is no sign-in at the provider
        if authn_via == ["change"]:  # Flask-Security signs in again after a change of the password
            _replace_sessions(tx, user, now)
            return
        if is_new_address(tx, user.id, g.address):
            _mail(user.email, "new_address")
        has_second_factor = authn_via is None or not {"webauthn", SECOND_FACTOR}.isdisjoint(authn_via)
        _start_session(tx, user, now, has_second_factor=has_second_factor)
        user.signed_in_at = now
        clear_failures(tx, Subject("account", user.email))
        how = " and ".join(authn_via or ["password", SECOND_FACTOR])
        _audit(user, "user.sign_in", f"{user.email} signed in with {how} from {g.address}")

    @user_logged_out.connect_via(app)  # type: ignore[untyped-decorator]
    def signed_out(_app: Flask, user: ConsoleUser, **_: Any) -> None:
        with transaction() as tx:
            end_sessions(tx, user.id, hash_token(session.pop(SESSION_KEY, "")))

    @signals.password_reset.connect_via(app)
    def reset(_app: Flask, user: ConsoleUser, **_: Any) -> None:
        clear_failures(orm_connection(), Subject("account", user.email))
        ended = format_ended(end_access(orm_connection(), user.id))
        _audit(user, "user.reset_password", f"{user.email} set a new password by a link; {ended}")

    @signals.password_changed.connect_via(app)
    def changed(_app: Flask, user: ConsoleUser, **_: Any) -> None:
        ended = format_count(g.ended_sessions, "other session ends", "other sessions end")
        _audit(user, "user.change_password", f"{user.email} changed the password; {ended}")

    @signals.tf_profile_changed.connect_via(app)
    def codes_set_up(_app: Flask, user: ConsoleUser, method: str, **_: Any) -> None:
        _audit(user, "user.codes", f"{user.email} set up one-time codes by {method}")
        _mail(user.email, "codes_set_up")
        after_this_request(_offer_recovery_codes)

    @signals.tf_code_confirmed.connect_via(app)
    def code_confirmed(app: Flask, user: ConsoleUser, method: str, **_: Any) -> None:
        if session.get("tf_state") == "validating_profile":  # the first codes, set up at a sign-in
            codes_set_up(app, user, method)

    @signals.tf_disabled.connect_via(app)
    def codes_removed(_app: Flask, user: ConsoleUser, **_: Any) -> None:
        _audit(user, "user.codes", f"{user.email} removed the one-time codes")
        _mail(user.email, "codes_removed")

    @signals.wan_registered.connect_via(app)
    def passkey_added(_app: Flask, user: ConsoleUser, name: str, **_: Any) -> None:
        _audit(user, "user.passkey", f"{user.email} added the passkey {name!r}")
        _mail(user.email, "passkey_added")

    @signals.wan_deleted.connect_via(app)
    def passkey_deleted(_app: Flask, user: ConsoleUser, name: str, **_: Any) -> None:
        _audit(user, "user.passkey", f"{user.email} deleted the passkey {name!r}")
        _mail(user.email, "passkey_deleted")

    app.extensions["shopfleet_events"] = (  # signals keep weak references
        signed_in, signed_out, reset, changed, codes_set_up, code_confirmed, codes_removed,
        passkey_added, passkey_deleted,
    )  # fmt: skip


def _start_session(tx: Connection, user: ConsoleUser, now: datetime, *, has_second_factor: bool) -> None:
    browser = request.user_agent.string
    session[SESSION_KEY] = start_session(
        tx, user.id, g.address, browser, now, has_second_factor=has_second_factor
    )


def _replace_sessions(tx: Connection, user: ConsoleUser, now: datetime) -> None:
    """End all sessions of a person, and start one like that of this browser."""
    live = find_session(tx, session.get(SESSION_KEY, ""), now)
    g.ended_sessions = end_sessions(tx, user.id) - 1
    _start_session(tx, user, now, has_second_factor=live is not None and live.has_second_factor)


def _mail(recipient: str, name: str, link: str = "") -> None:
    with transaction() as tx:
        record_account_mail(
            tx, name, recipient, utc_now(), reference=g.request_id, link=link, address=g.address
        )


def _offer_recovery_codes(response: Response) -> Response:
    if response.location and not current_user.mf_recovery_codes:
        response.location = url_for("security.mf_recovery_codes")
    return response


def _audit(user: ConsoleUser, action: str, summary: str) -> None:
    mutation = Mutation("users", str(user.id), summary)
    append_change(
        orm_connection(), action, {None: [mutation]}, by=user.email, now=utc_now(), request_id=g.request_id
    )
