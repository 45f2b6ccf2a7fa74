"""Flask-Security's messages and labels in our words."""

from collections.abc import Mapping
from types import MappingProxyType

_UNKNOWN_PASSKEY = "This console does not know this passkey. Use another one, or your password."
_WRONG_CODE = "The code is wrong, or was used. Your app shows a new code every 30 seconds."

SECOND_STEP_LATE = "More than 10 minutes have passed since your password. Sign in again."
SET_UP_LEFT = (
    "Your one-time codes are not set up yet. Sign in again: the next page has a new picture to scan."
)
HAS_SECOND_FACTOR = (
    "Your account has a second factor: sign in with it. New ones are set up on your account's page."
)

_DONE: Mapping[str, str] = {
    "GENERIC_RECOVERY": "If this email has an account, a mail with a link to a new password is on its way.",
    "PASSWORD_RESET_REQUEST": "A link to a new password is on its way to %(email)s.",
    "PASSWORD_RESET_NO_LOGIN": "Your new password is set. Sign in with it.",
    "PASSWORD_CHANGE": "Your password is changed.",
    "REAUTHENTICATION_SUCCESSFUL": "You signed in again. You can continue.",
    "TWO_FACTOR_LOGIN_SUCCESSFUL": "You are signed in.",
    "TWO_FACTOR_CHANGE_METHOD_SUCCESSFUL": "One-time codes are set up.",
    "TWO_FACTOR_DISABLED": "Your sign-in needs no one-time codes any more.",
    "WEBAUTHN_REGISTER_SUCCESSFUL": "The passkey %(name)s is added. You can sign in with it alone.",
    "WEBAUTHN_CREDENTIAL_DELETED": "The passkey %(name)s is deleted.",
}

_FAULTS: Mapping[str, str] = {
    "API_ERROR": "The answer of the browser is not complete. Start again.",
    "GENERIC_AUTHN_FAILED": (
        "Email or password is wrong. After 5 failures an account is locked for 15 minutes."
    ),
    "REAUTHENTICATION_REQUIRED": "Sign in again to continue.",
    "UNAUTHENTICATED": "Sign in to see this page.",
    "ANONYMOUS_USER_REQUIRED": "You are signed in already.",
    "EMAIL_NOT_PROVIDED": "Enter your email.",
    "INVALID_EMAIL_ADDRESS": "This is not an email address. An example is ada@example.com.",
    "INVALID_PASSWORD": "The password is wrong.",
    "INVALID_PASSWORD_CODE": "The password is wrong.",
    "PASSWORD_NOT_PROVIDED": "Enter a password.",
    "PASSWORD_INVALID_LENGTH": "The password is too short: it needs at least %(length)s characters.",
    "PASSWORD_IS_THE_SAME": "This is your present password. Choose another one.",
    "RETYPE_PASSWORD_MISMATCH": "The two passwords are different.",
    "PASSWORD_RESET_EXPIRED": "This link is older than %(within)s. Enter your email to get a new one.",
    "INVALID_RESET_PASSWORD_TOKEN": "This link was used, or is not complete. Enter your email for a new one.",
    "INVALID_REDIRECT": "The page after the sign-in is not a page of this console.",
    "INVALID_INPUT": "This value is not possible here.",
    "INVALID_CODE": _WRONG_CODE,
    "TWO_FACTOR_INVALID_TOKEN": _WRONG_CODE,
    "TWO_FACTOR_PERMISSION_DENIED": "Sign in with your password first.",
    "TWO_FACTOR_METHOD_NOT_AVAILABLE": "Choose one of the methods on this page.",
    "TWO_FACTOR_SETUP_EXPIRED": "More than %(within)s have passed. Start again.",
    "INVALID_RECOVERY_CODE": "The recovery code is wrong, or was used already.",
    "NO_RECOVERY_CODES_SETUP": "You have no recovery codes yet.",
    "WEBAUTHN_EXPIRED": "More than %(within)s have passed. Start again.",
    "WEBAUTHN_NAME_REQUIRED": "Enter a name for the passkey.",
    "WEBAUTHN_NAME_INUSE": "You have a passkey with the name %(name)s. Choose another name.",
    "WEBAUTHN_NAME_NOT_FOUND": "You have no passkey with the name %(name)s.",
    "WEBAUTHN_NAME_DISALLOWED_CHARACTERS": "A name has letters, digits, spaces, - and _ only.",
    "WEBAUTHN_CREDENTIAL_ID_INUSE": "This passkey is added already.",
    "WEBAUTHN_UNKNOWN_CREDENTIAL_ID": _UNKNOWN_PASSKEY,
    "WEBAUTHN_ORPHAN_CREDENTIAL_ID": _UNKNOWN_PASSKEY,
    "WEBAUTHN_MISMATCH_USER_HANDLE": _UNKNOWN_PASSKEY,
    "WEBAUTHN_CREDENTIAL_WRONG_USAGE": "This passkey cannot be used here. Use your password.",
    "WEBAUTHN_NO_VERIFY": "The passkey was not accepted (%(cause)s). Start again.",
    "DISABLED_ACCOUNT": "This account is disabled. An owner of the fleet can help.",
}

MESSAGES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {name: (text, "success") for name, text in _DONE.items()}
    | {name: (text, "error") for name, text in _FAULTS.items()}
)
"""Flask-Security's name of a message -> text and category."""

LABELS: Mapping[str, str] = MappingProxyType(
    {
        "Email Address": "Email",
        "Login": "Sign in",
        "Recover Password": "Send the link",
        "Reset Password": "Set the password",
        "Retype Password": "The password again",
        "New Password": "New password",
        "Change Password": "Change the password",
        "Verify Password": "Continue",
        "Authentication Code": "Code",
        "Submit Code": "Continue",
        "Submit": "Continue",
        "Start": "Continue",
        "Recovery Code": "Recovery code",
        "Available Methods": "Method",
        "Nickname": "Name, such as laptop",
        "Set up using an authenticator app (e.g. google, lastpass, authy)": "Use an authenticator app",
        "Disable two factor authentication": "Use no codes any more",
    }
)
"""Flask-Security's label of a field -> ours."""
