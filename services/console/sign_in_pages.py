"""The pages of sign-in: one template for all of Flask-Security's forms."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from flask import flash, render_template, request, session
from flask_security import url_for_security

from services.console.sign_in_texts import SET_UP_LEFT
from services.core.settings import get_settings


class FormOnPage(NamedTuple):
    """A form that Flask-Security passes as ``name``, posted to ``endpoint``.

    ``token`` is the name of the value in the endpoint's address; the form is left out if it is not passed.
    """

    name: str
    endpoint: str
    title: str = ""
    token: str = ""
    method: str = "post"


class SignInPage(NamedTuple):
    """A page: title, text above the forms, the forms, and what the browser does (``passkey.js``)."""

    title: str
    text: str
    forms: tuple[FormOnPage, ...]
    passkey: str = ""


_PASSKEY_SIGN_IN = (
    FormOnPage("wan_signin_form", "wan_signin"),
    FormOnPage("wan_signin_response_form", "wan_signin_response", token="wan_state"),  # noqa: S106
)

PAGES: Mapping[str, SignInPage] = MappingProxyType(
    {
        "login_user": SignInPage("Sign in", "", (FormOnPage("login_user_form", "login"),)),
        "forgot_password": SignInPage(
            "Get a link to a new password",
            "The link comes by mail, works once and within an hour.",
            (FormOnPage("forgot_password_form", "forgot_password"),),
        ),
        "reset_password": SignInPage(
            "Set a password",
            "At least 12 characters.",
            (FormOnPage("reset_password_form", "reset_password", token="reset_password_token"),),  # noqa: S106
        ),
        "change_password": SignInPage(
            "Change your password", "", (FormOnPage("change_password_form", "change_password"),)
        ),
        "verify": SignInPage(
            "Sign in again",
            "What you want to do needs a sign-in of the last 30 minutes. After it, do it again.",
            (
                FormOnPage("verify_form", "verify"),
                FormOnPage("wan_verify_form", "wan_verify", "Or use a passkey"),
            ),
        ),
        "two_factor_setup": SignInPage(
            "One-time codes",
            "An authenticator app on your phone makes a code for each sign-in. Delete an entry there that an "
            "earlier try made: it does not count.",
            (
                FormOnPage("two_factor_setup_form", "two_factor_setup"),
                FormOnPage("two_factor_verify_code_form", "two_factor_token_validation", "Enter the code"),
            ),
        ),
        "two_factor_verify_code": SignInPage(
            "Enter your code",
            "Your authenticator app shows it.",
            (FormOnPage("two_factor_verify_code_form", "two_factor_token_validation"),),
        ),
        "two_factor_select": SignInPage(
            "Choose the second factor", "", (FormOnPage("two_factor_select_form", "tf_select"),)
        ),
        "mf_recovery": SignInPage(
            "Enter a recovery code",
            "Each code works once. Without codes an owner of the fleet runs `fleet users reset-mfa`.",
            (FormOnPage("mf_recovery_form", "mf_recovery"),),
        ),
        "mf_recovery_codes": SignInPage(
            "Recovery codes",
            "Each code signs you in once without your phone. The codes are shown once: write them down, and "
            "keep them where your phone is not. New codes replace the old ones.",
            (FormOnPage("mf_recovery_codes_form", "mf_recovery_codes"),),
        ),
        "wan_register": SignInPage(
            "Passkeys",
            "A passkey signs you in without a password. Your phone, computer or password manager keeps it.",
            (
                FormOnPage("wan_register_form", "wan_register", "Add a passkey"),
                FormOnPage("wan_register_response_form", "wan_register_response", token="wan_state"),  # noqa: S106
            ),
            "register",
        ),
        "wan_signin": SignInPage("Sign in with a passkey", "", _PASSKEY_SIGN_IN, "sign-in"),
        "wan_verify": SignInPage(
            "Sign in again with a passkey",
            "",
            (
                FormOnPage("wan_verify_form", "wan_verify"),
                FormOnPage("wan_signin_response_form", "wan_verify_response", token="wan_state"),  # noqa: S106
            ),
            "sign-in",
        ),
    }
)
"""By Flask-Security's name of the template."""


_ORDER = ("email", "identity", "password", "new_password", "setup", "phone", "code", "name", "usage")
_LAST = ("submit", "csrf_token")


def notice_left_set_up() -> None:
    """On the page of sign-in, which ends the set-up of codes, tell a person who left it what to do."""
    is_sign_in = request.endpoint == "security.login" and request.method == "GET"
    if is_sign_in and session.get("tf_state") in ("setup_from_login", "validating_profile"):
        flash(SET_UP_LEFT, "error")


def render_sign_in_page(template: str, **context: Any) -> str:
    """Return the page for Flask-Security's ``template`` (``security/<name>.html``)."""
    name = template.rpartition("/")[2].removesuffix(".html")
    page = PAGES[name]
    if name == "mf_recovery_codes" and request.method != "POST":
        context["recovery_codes"] = []  # they are shown once
    forms = [
        (form, context[form.name], _list_fields(context[form.name], name), _address(form, context))
        for form in page.forms
        if _is_shown(form, page, context)
    ]
    context["has_oidc"] = bool(get_settings().oidc_issuer)
    return render_template("sign_in.html", name=name, page=page, forms=forms, **context)


def _is_shown(form: FormOnPage, page: SignInPage, context: Mapping[str, Any]) -> bool:
    if not context.get(form.name) or (form.token and not context.get(form.token)):
        return False
    if page.passkey and context.get("credential_options"):
        return bool(form.token)  # the browser answers; the first form is done
    if form.name == "two_factor_setup_form" and context.get("chosen_method"):
        return False  # it would make another key
    if form.name == "two_factor_verify_code_form" and "chosen_method" in context:
        return bool(context["chosen_method"])
    return (
        form.name != "wan_verify_form"
        or "has_webauthn_verify_credential" not in context
        or bool(context["has_webauthn_verify_credential"])
    )


def _address(form: FormOnPage, context: Mapping[str, Any]) -> str:
    values = {"token": context[form.token]} if form.token else {}
    if context.get("state_token") and form.endpoint == "two_factor_token_validation":
        return str(url_for_security("two_factor_setup_validate", token=context["state_token"]))
    if "next" in request.args:
        values["next"] = request.args["next"]
    return str(url_for_security(form.endpoint, **values))


def _list_fields(form: Any, page: str) -> list[Any]:
    """Return the fields that the page shows, in the order in which a person fills them in."""
    shown = [
        field
        for field in form
        if not (page == "two_factor_setup" and field.name == "phone")
        and not (field.name == "next" and not field.data)
    ]
    return sorted(shown, key=_place)


def _place(field: Any) -> int:
    if field.name in _LAST:
        return 99
    return _ORDER.index(field.name) if field.name in _ORDER else 50
