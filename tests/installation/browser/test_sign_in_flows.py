"""Sign-in in a real Chromium: password, one-time codes, recovery codes, passkeys, locks, links."""

import re

from playwright.sync_api import Browser, Page, expect
from sqlalchemy import text

from services.accounts.roles import Role
from services.accounts.sign_in_locks import MAX_FAILURES
from services.core.db import transaction
from tests.console.people import make_code
from tests.installation.browser.flows import (
    ADA,
    add_ada,
    add_authenticator,
    add_passkey,
    set_password,
    set_up_codes,
    sign_out,
    type_code,
    type_password,
    use_passkey,
)


def lock_ada(page: Page) -> None:
    for _ in range(MAX_FAILURES["account"]):
        type_password(page, "a wrong password")
    type_password(page)
    expect(page.get_by_role("alert")).to_contain_text("locked")


def expect_signed_in(page: Page) -> None:
    expect(page.get_by_role("button", name="Sign out", exact=True)).to_be_visible()


def read_mailed_link() -> str:
    with transaction() as tx:
        found = tx.execute(text("select text from mail_outbox where subject like 'Set a new%'")).scalar_one()
    match = re.search(r"https?://[^/]+(/sign-in/forgot/\S+)", found)
    assert match
    return match[1]


def test_an_owner_sets_a_password_and_codes_and_signs_in_with_them(page: Page) -> None:
    set_password(page, add_ada(Role.OWNER))
    type_password(page)
    key = set_up_codes(page)

    expect(page).to_have_title(re.compile("Recovery codes"))
    page.get_by_role("button", name="Make 10 new codes").click()
    codes = page.locator(".codes code").all_inner_texts()
    assert len(codes) == 10
    page.get_by_role("link", name="Continue").click()
    expect_signed_in(page)

    sign_out(page)
    type_password(page)
    page.get_by_role("link", name="Use a recovery code").click()
    page.get_by_label("Recovery code").fill(codes[0])
    page.get_by_role("button", name="Continue").click()
    expect_signed_in(page)

    page.goto("/account/recovery-codes?show_codes=1")
    assert page.locator(".codes code").count() == 0, "codes are shown once"

    sign_out(page)
    type_password(page)
    type_code(page, "000000")
    expect(page.get_by_text("The code is wrong")).to_be_visible()
    type_code(page, make_code(key, steps=1))
    expect_signed_in(page)


def test_a_passkey_signs_in_alone_and_while_the_account_is_locked(page: Page) -> None:
    set_password(page, add_ada(Role.OPERATOR))
    type_password(page)
    add_authenticator(page)
    add_passkey(page, "laptop")
    expect(page.get_by_role("status")).to_contain_text("laptop is added")

    sign_out(page)
    use_passkey(page)
    expect_signed_in(page)

    sign_out(page)
    lock_ada(page)
    use_passkey(page)
    expect_signed_in(page)


def test_a_passkey_is_all_that_an_owner_needs_also_after_a_password(page: Page) -> None:
    set_password(page, add_ada(Role.OWNER))
    type_password(page)
    set_up_codes(page)
    page.goto("/account")
    add_authenticator(page)
    add_passkey(page, "laptop")
    sign_out(page)

    type_password(page)
    expect(page).to_have_title(re.compile("Enter your code"))
    use_passkey(page)
    expect_signed_in(page)

    page.goto("/account/passkeys")
    page.get_by_role("button", name="Delete laptop").click()
    expect(page.get_by_role("status")).to_contain_text("laptop is deleted")


def test_a_lock_is_shown_and_ends_by_itself(page: Page) -> None:
    set_password(page, add_ada())
    lock_ada(page)

    with transaction() as tx:
        tx.execute(text("update sign_in_locks set locked_until = now() - interval '1 second'"))
    type_password(page)

    expect_signed_in(page)


def test_a_forgotten_password_is_set_by_the_mailed_link_also_during_a_lock(page: Page) -> None:
    set_password(page, add_ada())
    lock_ada(page)

    page.get_by_role("link", name="Forgot your password?").click()
    page.get_by_label("Email").fill(ADA)
    page.get_by_role("button", name="Send the link").click()
    expect(page.get_by_role("status")).to_contain_text("is on its way")
    path = read_mailed_link()
    set_password(page, path, "another long password")
    type_password(page, "another long password")
    expect_signed_in(page)

    sign_out(page)
    page.goto(path)
    expect(page.get_by_role("status")).to_contain_text("This link was used")


def test_all_sessions_end_at_once(page: Page, chromium: Browser, console: str) -> None:
    set_password(page, add_ada())
    type_password(page)
    with chromium.new_context(base_url=console) as context:
        other = context.new_page()
        type_password(other)
        expect_signed_in(other)

        page.goto("/account")
        page.get_by_role("button", name="End all sessions").click()

        expect(page).to_have_title(re.compile("Sign in"))
        other.goto("/account")
        expect(other).to_have_title(re.compile("Sign in"))
