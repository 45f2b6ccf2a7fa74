"""People: roles, the last owner, what their removal ends, and API tokens."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from services.accounts.api_tokens import create_token, find_token_access, list_tokens, revoke_token
from services.accounts.people import (
    add_person,
    change_roles,
    find_access,
    get_person,
    list_people,
    list_readable_secrets,
    remove_person,
    reset_mfa,
)
from services.accounts.roles import Access, Role
from services.accounts.sessions import IDLE, LONGEST, find_session, list_sessions, start_session
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import InputInvalid, ShopfleetError

NOW = utc_now()


def add(email: str, role: Role = Role.VIEWER, shop: int | None = None) -> int:
    with transaction() as tx:
        return add_person(tx, email, "", {shop: role}, by="tests", now=NOW)


def test_a_person_has_the_higher_of_the_role_in_the_fleet_and_at_the_shop() -> None:
    access = Access(1, "ada@example.com", "ada", {None: Role.VIEWER, 7: Role.ADMIN})

    assert access.may(Role.ADMIN, 7)
    assert not access.may(Role.OPERATOR, 8)
    assert access.may(Role.VIEWER, 8)
    assert access.shops_with(Role.OPERATOR) == {7}
    assert access.shops_with(Role.VIEWER) is None
    assert not access.limited_to(Role.OPERATOR).may(Role.ADMIN, 7)


@pytest.mark.parametrize("email", ["", "ada", "ada@", "a b@example.com", "ADA@example.com"])
def test_a_wrong_or_taken_email_is_refused(engine: Engine, email: str) -> None:
    add("ada@example.com")

    with pytest.raises(InputInvalid, match=r"email="):
        add(email)


def test_the_last_owner_can_neither_be_removed_nor_get_another_role(engine: Engine) -> None:
    add("ada@example.com", Role.OWNER)
    add("bob@example.com", Role.OWNER, shop=1)  # an owner of one shop is none of the fleet

    with transaction() as tx:
        ada = get_person(tx, "Ada@Example.com")
        with pytest.raises(ShopfleetError, match="last owner"):
            remove_person(tx, ada, by="tests", now=NOW)
        with pytest.raises(ShopfleetError, match="last owner"):
            change_roles(tx, ada, lambda _: {None: Role.ADMIN}, by="tests", now=NOW)


def test_a_removal_ends_sessions_and_tokens_at_once(engine: Engine) -> None:
    add("ada@example.com", Role.OWNER)
    user_id = add("bob@example.com", Role.OPERATOR)
    with transaction() as tx:
        session = start_session(tx, user_id, "127.0.0.1", "browser", NOW)
        access = find_access(tx, user_id)
        assert access is not None
        token = create_token(tx, access, "ci", Role.VIEWER, timedelta(days=1), by="tests", now=NOW)

    with transaction() as tx:
        remove_person(tx, get_person(tx, "bob@example.com"), by="tests", now=NOW)

    with transaction() as tx:
        assert find_session(tx, session, NOW) is None
        assert find_token_access(tx, token, "127.0.0.1", NOW) is None
        actions = tx.execute(text("select action from audit_events order by id")).scalars().all()
    assert actions == ["user.add", "user.add", "token.create", "user.remove"]


def test_a_session_ends_by_age_and_by_rest(engine: Engine) -> None:
    user_id = add("ada@example.com")
    with transaction() as tx:
        token = start_session(tx, user_id, "127.0.0.1", "browser", NOW)
        assert find_session(tx, token, NOW + IDLE - timedelta(seconds=1)) == (user_id, False)
        assert find_session(tx, token, NOW + 2 * IDLE - timedelta(seconds=2)) == (user_id, False)
        assert find_session(tx, token, NOW + 3 * IDLE) is None
        assert find_session(tx, token, NOW + LONGEST) is None
        assert find_session(tx, "another", NOW) is None
        assert [row.address for row in list_sessions(tx, user_id, NOW)] == ["127.0.0.1"]


def test_a_reset_of_second_factors_ends_the_sessions(engine: Engine) -> None:
    user_id = add("ada@example.com")
    with transaction() as tx:
        start_session(tx, user_id, "127.0.0.1", "browser", NOW)

        assert reset_mfa(tx, get_person(tx, "ada@example.com"), by="tests", now=NOW) == (1, 0)
        assert not list_sessions(tx, user_id, NOW)


def test_a_token_has_at_most_the_role_of_its_owner_and_an_end(engine: Engine) -> None:
    user_id = add("ada@example.com", Role.OPERATOR)
    with transaction() as tx:
        access = find_access(tx, user_id)
        assert access is not None
        with pytest.raises(InputInvalid, match="role='admin'"):
            create_token(tx, access, "ci", Role.ADMIN, timedelta(days=1), by="tests", now=NOW)
        with pytest.raises(InputInvalid, match="valid_for"):
            create_token(tx, access, "ci", Role.VIEWER, timedelta(days=400), by="tests", now=NOW)
        with pytest.raises(InputInvalid, match="name is empty"):
            create_token(tx, access, " ", Role.VIEWER, timedelta(days=1), by="tests", now=NOW)
        token = create_token(tx, access, "ci", Role.VIEWER, timedelta(days=1), by="tests", now=NOW)

        found = find_token_access(tx, token, "10.0.0.1", NOW)
        assert found is not None
        assert found.highest is Role.VIEWER
        assert find_token_access(tx, token, "10.0.0.1", NOW + timedelta(days=1)) is None
        (row,) = list_tokens(tx, user_id)
        assert (row.used_at, row.used_from) == (NOW, "10.0.0.1")
        stored = tx.execute(text("select token_hash from api_tokens")).scalar_one()
        assert token.encode() not in bytes(stored)

        revoke_token(tx, user_id, row.id, by="tests", now=NOW)
        assert find_token_access(tx, token, "10.0.0.1", NOW) is None
        with pytest.raises(InputInvalid, match="no API token"):
            revoke_token(tx, user_id, row.id, by="tests", now=NOW)


def test_the_secrets_to_rotate_are_those_of_the_shops_where_the_person_is_admin(engine: Engine) -> None:
    add("ada@example.com", Role.ADMIN, shop=1)
    with transaction() as tx:
        tx.execute(text("insert into shops (slug, name, timezone, currency) values "
                        "('one', 'One', 'UTC', 'CAD'), ('two', 'Two', 'UTC', 'CAD')"))  # fmt: skip
        tx.execute(text("insert into shop_secrets (shop_id, name, sealed) values "
                        "(1, 'stripe-key', 'x'), (2, 'stripe-key', 'x')"))  # fmt: skip

        assert list_readable_secrets(tx, get_person(tx, "ada@example.com")) == [("one", "stripe-key")]


def test_two_changes_of_roles_at_once_lose_none(engine: Engine) -> None:
    add("ada@example.com", Role.OWNER)
    add("bob@example.com", Role.ADMIN)
    barrier = threading.Barrier(2)

    def change(added: dict[int | None, Role]) -> None:
        with transaction() as tx:
            bob = get_person(tx, "bob@example.com")
            barrier.wait()
            change_roles(tx, bob, lambda present: {**present, **added}, by="tests", now=NOW)

    changes: list[dict[int | None, Role]] = [{None: Role.VIEWER}, {7: Role.OPERATOR}]
    threads = [threading.Thread(target=change, args=(one,)) for one in changes]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    with transaction() as tx:
        assert get_person(tx, "bob@example.com").roles == {None: Role.VIEWER, 7: Role.OPERATOR}


def test_a_person_is_found_by_the_email_that_the_database_holds_for_the_same(engine: Engine) -> None:
    for email in ("strasse@example.com", "straße@example.com", "Ada@Example.com"):
        add(email)

    with transaction() as tx:
        for typed, email in (
            ("strasse@example.com", "strasse@example.com"),
            ("STRASSE@example.com", "strasse@example.com"),
            ("straße@example.com", "straße@example.com"),
            ("ada@EXAMPLE.com", "Ada@example.com"),
        ):
            assert get_person(tx, typed).email == email


@pytest.mark.parametrize(
    "email",
    ["a@b", "ada@localhost", "a..b@example.com", "a\tb@example.com", "a\0b@example.com", "a b@example.com"],
)
def test_an_email_that_cannot_sign_in_is_refused(engine: Engine, email: str) -> None:
    with pytest.raises(InputInvalid, match="email="):
        add(email)


def test_an_email_is_recorded_in_the_form_that_sign_in_finds(engine: Engine) -> None:
    add("ade\u0301@\uff45xample.com")

    with transaction() as tx:
        assert [one.email for one in list_people(tx)] == ["ad\u00e9@example.com"]
