"""Refreshes Shopify's expiring offline access tokens with the refresh token.

Source: shopify.dev, "Offline access tokens", and ``refreshToken`` of shopify-api-js. The refresh token
rotates. Since 2026-08-28 the previous one stays valid until the new one is used, so after a lost response the
refresh is repeated with the stored token.
"""

from services.providers.oauth import TokenEndpoint

SHOPIFY_TOKENS = TokenEndpoint(
    provider="shopify",
    code="shopify",
    path="/admin/oauth/access_token",
    host="the shop's domain",
    refuser="the shop",
    sends_json=True,
    reconnect=(
        "Shopify refuses the refresh token: open the app in the shop's admin to install it again, then "
        "record its new shopify-token and shopify-refresh-token with `fleet shops secret`, and requeue the "
        "waiting work"
    ),
    fix_client=(
        "Shopify refuses the app's credentials: record shopify-client-id and shopify-client-secret again "
        "with `fleet shops secret`, then requeue the waiting work"
    ),
)
