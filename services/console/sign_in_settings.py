"""Settings of Flask and Flask-Security, and keys derived from ``SECRET_KEY``."""

import base64
from datetime import timedelta
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.console.sign_in_texts import MESSAGES
from services.core.clock import utc_now
from services.core.settings import Settings

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


def sign_in_settings(settings: Settings) -> dict[str, Any]:
    """Return the configuration of Flask and Flask-Security."""
    is_https = console_url(settings).startswith("https:")
    keys = {"current": derive_key(settings, "session")}
    fallbacks = [key for key in [derive_key(settings, "session", previous=True)] if key]
    seals = [derive_key(settings, "recovery-codes"), derive_key(settings, "recovery-codes", previous=True)]
    totp = {"2": derive_key(settings, "one-time-codes")}
    if old := derive_key(settings, "one-time-codes", previous=True):
        totp = {"1": old, **totp}
    messages = {f"MSG_{name}": message for name, message in MESSAGES.items()}
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
        # A link has the hash of the stored password's hash, which nobody can guess: slow rounds add nothing.
        "HASHING_SCHEMES": ["hex_sha256", "sha256_crypt"],
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
    }
    return {f"SECURITY_{name}": value for name, value in (security | messages).items()} | {
        "SECRET_KEY": keys["current"],
        "SECRET_KEY_FALLBACKS": fallbacks,
        "SESSION_COOKIE_NAME": "__Host-fleet" if is_https else "fleet",
        "SESSION_COOKIE_SECURE": is_https,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "WTF_CSRF_TIME_LIMIT": None,
    }
