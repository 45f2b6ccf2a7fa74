"""What a person does on the pages of sign-in."""

from urllib.parse import urlsplit

from playwright.sync_api import Page

from services.accounts.people import add_person
from services.accounts.roles import Role
from services.console.links import make_password_link
from services.core.clock import utc_now
from services.core.db import transaction
from tests.console.people import PASSWORD, make_code

ADA = "ada@example.com"


def add_ada(role: Role = Role.VIEWER) -> str:
    """Add a person; return the path of the link that sets a password."""
    with transaction() as tx:
        add_person(tx, ADA, "Ada", {None: role}, by="tests", now=utc_now())
    return urlsplit(make_password_link(ADA, by="tests", now=utc_now())).path


def set_password(page: Page, path: str, password: str = PASSWORD) -> None:
    page.goto(path)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_label("The password again").fill(password)
    page.get_by_role("button", name="Set the password").click()
    page.wait_for_url("**/sign-in")


def type_password(page: Page, password: str = PASSWORD) -> None:
    page.goto("/sign-in")
    page.get_by_label("Email").fill(ADA)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in", exact=True).click()


def set_up_codes(page: Page) -> str:
    """Set up one-time codes on the open page; return their key."""
    page.get_by_role("button", name="Continue").click()
    key = page.locator("code.key").inner_text()
    type_code(page, make_code(key))
    return key


def type_code(page: Page, code: str) -> None:
    page.get_by_label("Code", exact=True).fill(code)
    page.get_by_role("button", name="Continue").last.click()


def sign_out(page: Page) -> None:
    page.get_by_role("button", name="Sign out", exact=True).click()
    page.wait_for_url("**/sign-in")


def add_authenticator(page: Page) -> None:
    """Give the browser an authenticator that confirms by itself, as a finger does."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})


def add_passkey(page: Page, name: str) -> None:
    page.goto("/account/passkeys")
    page.get_by_label("Name, such as laptop").fill(name)
    page.get_by_role("button", name="Add the passkey").click()
    page.wait_for_url("**/account")


def use_passkey(page: Page) -> None:
    page.goto("/sign-in")
    page.get_by_role("link", name="Sign in with a passkey").click()
    page.get_by_role("button", name="Continue").click()
