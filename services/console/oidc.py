"""Single sign-on by an OpenID Connect provider: code flow with PKCE, state and nonce in the session."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from threading import BoundedSemaphore
from typing import Any

import requests
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.flask_client import OAuth
from flask import (
    Blueprint,
    Flask,
    abort,
    after_this_request,
    current_app,
    flash,
    g,
    redirect,
    request,
    session,
    url_for,
)
from flask_security import current_user, login_user, logout_user
from flask_security.utils import _view_commit, validate_redirect_url
from joserfc.errors import JoseError

from services.accounts.oidc import OidcRefused, ProviderIdentity, find_oidc_user
from services.console.sign_in import SECOND_FACTOR
from services.console.sign_in_forms import FIRST_STEP_AT, PROVIDER_SIGN_IN_AT, SIGN_IN
from services.console.sign_in_settings import FRESH_FOR, console_url
from services.console.user_store import find_console_user
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import Settings

ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"})
"""With a public key: neither ``none`` nor one whose key is the client's secret."""
FAILED = "Single sign-on failed. Try again, or sign in in another way."
_NEXT = "oidc_next"
_LONGEST_SUBJECT = 255
_NAME = "oidc"
_STATE = f"_state_{_NAME}_"
"""Beginning of Authlib's keys in the session."""
_TIMEOUT_SECONDS = 3
_MOST_CALLS = 2
"""Requests that may wait for the provider at a time: the other threads of the console stay free."""
_RETRY_AFTER = timedelta(seconds=10)
"""After a failed reading of the metadata the provider is not called for this time."""
_LONGEST_NEXT = 1024
"""Bytes in the session: browsers drop a cookie above 4096."""
_CLOCK_SECONDS = 60


class ProviderFault(Exception):
    """The provider's answer is not that of the configured issuer, or it is not called now."""


def oidc_blueprint(app: Flask, settings: Settings) -> Blueprint:
    """Return the two routes of single sign-on; without ``OIDC_ISSUER`` they answer 404."""
    blueprint = Blueprint("oidc", __name__, url_prefix="/sign-in/oidc")
    oauth, calls = OAuth(app), _ProviderCalls()
    if settings.oidc_issuer:
        oauth.register(
            _NAME,
            client_id=settings.oidc_client_id,
            client_secret=settings.oidc_client_secret,
            server_metadata_url=f"{settings.oidc_issuer.rstrip('/')}/.well-known/openid-configuration",
            client_kwargs={
                "scope": "openid email",
                "code_challenge_method": "S256",
                "default_timeout": _TIMEOUT_SECONDS,
            },
        )

    @blueprint.before_request
    def check_settings() -> None:
        if not settings.oidc_issuer:
            abort(404)

    @blueprint.get("")
    def start() -> Any:
        for key in [one for one in session if one.startswith(_STATE)]:
            session.pop(key)  # of a sign-in that was not finished: the cookie would grow
        wanted = request.args.get("next", "")
        session[_NEXT] = wanted if len(json.dumps(wanted)) <= _LONGEST_NEXT else ""
        callback = f"{console_url(settings)}{url_for('oidc.finish')}"
        try:
            with calls.reading_metadata(oauth, settings):
                seconds = int(FRESH_FOR.total_seconds())
                return oauth.oidc.authorize_redirect(callback, max_age=seconds)
        except (requests.RequestException, AuthlibBaseError, ProviderFault, ValueError) as fault:
            return _refuse(fault)

    @blueprint.get("/callback")
    def finish() -> Any:
        try:
            if f"{_STATE}{request.args.get('state', '')}" not in session:
                raise ProviderFault("the state is not that of a sign-in of this browser")
            with calls.reading_metadata(oauth, settings):
                claims = _read_claims(oauth, settings)
            with transaction() as tx:
                identity = ProviderIdentity(settings.oidc_issuer, claims["sub"], _find_email(claims))
                author = {"by": SIGN_IN, "now": utc_now(), "request_id": g.request_id}
                user_id = find_oidc_user(tx, identity, **author)
        except OidcRefused as fault:
            current_app.logger.warning("single sign-on refused: no person for this subject")
            flash(str(fault), "error")
            return redirect(url_for("security.login"))
        except (requests.RequestException, AuthlibBaseError, JoseError, ProviderFault, ValueError) as fault:
            return _refuse(fault)
        return _sign_in(user_id, claims, settings)

    return blueprint


class _ProviderCalls:
    """Limits the requests that wait for the provider, and remembers that its metadata was not readable."""

    def __init__(self) -> None:
        self._free = BoundedSemaphore(_MOST_CALLS)
        self._failed_at: datetime | None = None

    @contextmanager
    def reading_metadata(self, oauth: Any, settings: Settings) -> Iterator[None]:
        """Read the metadata, then run the body; raise ``ProviderFault`` if the provider is not called now."""
        if self._failed_at and utc_now() - self._failed_at < _RETRY_AFTER:
            raise ProviderFault("its metadata was not readable a moment ago")
        if not self._free.acquire(blocking=False):
            raise ProviderFault("other requests wait for the provider")
        try:
            try:
                _load_metadata(oauth, settings)
            except Exception:
                self._failed_at = utc_now()
                raise
            self._failed_at = None
            yield
        finally:
            self._free.release()


def _load_metadata(oauth: Any, settings: Settings) -> None:
    """Read the provider's metadata once, and leave the safe algorithms in it."""
    metadata = oauth.oidc.load_server_metadata()
    if metadata.get("issuer") != settings.oidc_issuer:
        raise ProviderFault(f"the metadata names the issuer {metadata.get('issuer')!r}: check OIDC_ISSUER")
    name = "id_token_signing_alg_values_supported"
    metadata[name] = sorted(ALGORITHMS & set(metadata.get(name) or ["RS256"]))


def _read_claims(oauth: Any, settings: Settings) -> dict[str, Any]:
    """Return the claims of the ID token, which was checked against session, issuer, client and time."""
    options = {
        "iss": {"essential": True, "value": settings.oidc_issuer},
        "aud": {"essential": True, "value": settings.oidc_client_id},
        "exp": {"essential": True},
    }
    token = oauth.oidc.authorize_access_token(claims_options=options, leeway=_CLOCK_SECONDS)
    claims = token.get("userinfo")
    subject = claims.get("sub") if claims else None
    if not isinstance(subject, str) or not subject.isprintable() or not 0 < len(subject) <= _LONGEST_SUBJECT:
        raise ProviderFault("the answer has no ID token with a subject")
    return dict(claims)


def _find_email(claims: dict[str, Any]) -> str:
    email = claims.get("email")
    return email if claims.get("email_verified") is True and isinstance(email, str) else ""


def has_second_factor(claims: dict[str, Any], wanted: str) -> bool:
    """Return whether ``claims`` have ``wanted``, such as ``amr=mfa``; False for an empty one. Pure."""
    name, _, value = wanted.partition("=")
    found = claims.get(name)
    return bool(wanted) and value in (found if isinstance(found, list) else [found])


def _sign_in(user_id: int, claims: dict[str, Any], settings: Settings) -> Any:
    """Sign the person in, or go on to their second factor if the provider has not checked one."""
    if current_user.is_authenticated:
        logout_user()
    user = find_console_user(user_id)
    if user is None:
        return _refuse(OidcRefused())
    wanted = session.pop(_NEXT, "")
    page = wanted if validate_redirect_url(wanted) else url_for("pages.home")
    how = ["single sign-on"]
    # A sign-in is as fresh as the provider says. One that does not say it is not fresh.
    at = claims.get("auth_time")
    session[PROVIDER_SIGN_IN_AT] = min(at, utc_now().timestamp()) if isinstance(at, int | float) else 0
    if has_second_factor(claims, settings.oidc_second_factor):
        how.append(SECOND_FACTOR)
    else:
        session[FIRST_STEP_AT] = utc_now().timestamp()
        plugins = current_app.extensions["security"].two_factor_plugins
        if (answer := plugins.tf_enter(user, False, "oidc", page)) is not None:
            return answer
    after_this_request(_view_commit)
    login_user(user, authn_via=how)
    return redirect(page)


def _refuse(fault: Exception) -> Any:
    # Its text may have parts of a token: the log has the class, and what we wrote ourselves.
    detail = str(fault) if isinstance(fault, ProviderFault) else ""
    current_app.logger.warning("single sign-on failed: %s %s", type(fault).__name__, detail)
    flash(FAILED, "error")
    return redirect(url_for("security.login"))
