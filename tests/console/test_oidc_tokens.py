"""ID tokens that single sign-on refuses: wrong claims, and signatures that are not the provider's."""

from collections.abc import Callable
from typing import Any

import pytest
from joserfc.jwk import RSAKey
from sqlalchemy import Engine

from services.console.oidc import FAILED
from tests.console.oidc_provider import CLIENT_ID, Provider
from tests.console.people import make_console
from tests.console.test_oidc import add, is_signed_in, provider, sign_in
from tests.console.test_sign_in import list_actions

__all__ = ["provider"]

WRONG_CLAIMS: dict[str, dict[str, Any]] = {
    "nonce of another sign-in": {"nonce": "other"},
    "no nonce": {"nonce": None},
    "audience of another client": {"aud": "other"},
    "audience of another client in a list": {"aud": ["other"], "azp": CLIENT_ID},
    "no audience": {"aud": None},
    "another issuer": {"iss": "https://evil.example"},
    "no issuer": {"iss": None},
    "expired": {"exp": 1_000_000_000},
    "no end": {"exp": None},
    "issued in the future": {"iat": 9_000_000_000},
    "no subject": {"sub": None},
    "a subject that is no text": {"sub": 4711},
    "an empty subject": {"sub": ""},
    "a subject that PostgreSQL cannot store": {"sub": "a\0"},
    "authorized for another party": {"azp": "other"},
}


@pytest.mark.parametrize("claims", WRONG_CLAIMS.values(), ids=WRONG_CLAIMS)
def test_a_token_with_wrong_claims_is_refused(
    engine: Engine, provider: Provider, claims: dict[str, Any]
) -> None:
    add()
    client = make_console(engine)
    provider.claims = claims

    assert sign_in(client, provider).location == "/sign-in"
    assert FAILED in client.get("/sign-in").text
    assert not is_signed_in(client)
    assert list_actions() == ["user.add"]


def _set_other_key(provider: Provider) -> None:
    provider.signing_key = RSAKey.generate_key(2048, {"kid": "1"}, private=True)


@pytest.mark.parametrize(
    "forge",
    [
        _set_other_key,
        lambda provider: setattr(provider, "algorithm", "none"),
        lambda provider: setattr(provider, "algorithm", "HS256"),
    ],
    ids=["key", "none", "hmac"],
)
def test_a_token_that_the_provider_did_not_sign_is_refused(
    engine: Engine, provider: Provider, forge: Callable[[Provider], None]
) -> None:
    add()
    client = make_console(engine)
    forge(provider)

    assert sign_in(client, provider).location == "/sign-in"
    assert not is_signed_in(client)
