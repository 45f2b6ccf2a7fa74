"""Connects a company to QuickBooks Time (formerly TSheets) and refreshes its tokens.

Source: QuickBooks Time API documentation, "Authentication". An access token lives 10 days; a refresh returns
a new refresh token. A refusal may come as HTTP 200 with ``error``.
"""

from urllib.parse import urlencode

from services.providers.oauth import TokenEndpoint

PROVIDER = "quickbooks-time"

QUICKBOOKS_TIME_TOKENS = TokenEndpoint(
    provider=PROVIDER,
    code="quickbooks_time",
    path="/api/v1/grant",
    host="rest.tsheets.com",
    refuser="QuickBooks Time",
    reconnect=(
        "QuickBooks Time refuses the refresh token: an admin of the company connects it again on the shop's "
        "page of the console; the reports that are due then go out by themselves"
    ),
    fix_client=(
        "QuickBooks Time refuses the app's credentials: record quickbooks-time-client-id and "
        "quickbooks-time-client-secret again with `fleet shops secret` or on the shop's page"
    ),
)


def make_authorize_url(base_url: str, client_id: str, redirect_uri: str, state: str) -> str:
    """Return the address at which a company's admin allows the app; it leads back with ``state``."""
    fields = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "state": state,
    }
    return f"{base_url.rstrip('/')}/api/v1/authorize?{urlencode(fields)}"
