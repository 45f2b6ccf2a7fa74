"""A wrong secret is described and never shown."""

import base64

import pytest

from services.providers.provider import SecretInvalid
from services.providers.registry import SECRET_KINDS, get_secret_kind

BASE64 = base64.b64encode(b"k" * 32).decode()


@pytest.mark.parametrize(
    ("name", "pasted"),
    [
        ("shopify-webhook", "0f3c9b8a7d6e5f4c3b2a1908f7e6d5c4"),
        ("shopify-webhook", "shpss_0f3c9b8a"),
        ("shopify-token", "shpat_0f3c"),
        ("shopify-refresh-token", "shprt_0f3c"),
        ("shopify-client-id", "0f3c"),
        ("shopify-client-secret", "shpss_0f3c"),
        ("stripe-webhook", "whsec_anything"),
        ("stripe-key", "sk_test_1"),
        ("stripe-key", "rk_live_1"),
        ("openphone-webhook", BASE64),
        ("openphone-webhook", "whsec_" + BASE64),
        ("standard-webhook:billing", "whsec_" + BASE64.rstrip("=")),
        ("notion-key", "ntn_1"),
    ],
)
def test_correct_secret_is_returned_without_surrounding_space(name, pasted):
    assert get_secret_kind(name).parse(f" {pasted}\n") == pasted


@pytest.mark.parametrize(
    ("name", "pasted", "meaning"),
    [
        ("stripe-webhook", "sk_live_1", "Stripe secret key"),
        ("stripe-webhook", "we_1", "webhook endpoint"),
        ("stripe-key", "pk_live_1", "publishable key"),
        ("stripe-key", "whsec_1", "signing secret"),
        ("shopify-webhook", "shpat_1", "access token"),
        ("shopify-token", "shpss_1", "client secret"),
        ("shopify-token", "shprt_1", "refresh token"),
        ("shopify-refresh-token", "shpat_1", "access token"),
        ("shopify-client-id", "shpss_1", "client secret"),
        ("shopify-client-secret", "shprt_1", "refresh token"),
        ("standard-webhook:x", "whpk_1", "public key"),
        ("openphone-webhook", "whsec_not base64", "white space"),
        ("openphone-webhook", "whsec_n*t", "not base64"),
        ("standard-webhook:x", "whsec_", "not base64"),
        ("shopify-webhook", " \n", "empty"),
        ("shopify-webhook", "a\x00b", "unprintable"),
        ("stripe-webhook", "whsec_" + "x" * 5000, "5,006 characters"),
    ],
)
def test_wrong_secret_is_described_with_the_correct_form(name, pasted, meaning):
    with pytest.raises(SecretInvalid) as caught:
        get_secret_kind(name).parse(pasted)

    assert name in str(caught.value)
    assert meaning in str(caught.value)
    assert "should be" in str(caught.value)


WITHOUT_PREFIX = {
    "shopify-webhook": "the secret of Settings > Notifications has none",
    "shopify-client-secret": "that of an old app has none",
    "openphone-webhook": "an older signing key is plain base64",
}
"""Kinds of which only some values have a prefix, and why."""


def test_a_secret_without_the_prefix_of_its_kind_is_refused_with_the_valid_ones():
    for kind in SECRET_KINDS.values():
        if kind.prefixes and kind.name not in WITHOUT_PREFIX:
            with pytest.raises(SecretInvalid) as caught:
                kind.parse("hello")
            assert all(prefix in str(caught.value) for prefix in kind.prefixes)
            assert "hello" not in str(caught.value)
        elif kind.name in WITHOUT_PREFIX:
            assert not kind.needs_prefix


def test_message_does_not_contain_the_secret():
    with pytest.raises(SecretInvalid) as caught:
        get_secret_kind("stripe-webhook").parse("sk_live_51HsecretSECRETsecret")

    assert "51H" not in str(caught.value)
