"""Connections for display: whether each provider accepts our credentials, since when, and what to do."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from services.core.settings import get_settings
from services.ledger.work import FLEET
from services.mail.remedies import REMEDIES, MailSender, find_remedy
from services.mail.transports import SECRETS
from services.shops.connections import ConnectionState, list_connections
from services.shops.mail_transport import MailChoice, find_mail_choices
from services.shops.shops import find_slugs


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLine:
    """A connection for display. ``is_used`` is false if the mail uses another transport now."""

    shop: str
    provider: str
    status: str
    is_used: bool
    since: datetime
    updated_at: datetime
    code: str
    detail: str
    to_do: str

    @property
    def cells(self) -> tuple[object, ...]:
        """The line as a row of ``COLUMNS``."""
        state = self.status if self.is_used else f"{self.status}, not used any more"
        return (self.shop, self.provider, state, self.since, self.code, self.detail, self.to_do)


def list_connection_lines(tx: Connection, fleet_transport: str = "") -> list[ConnectionLine]:
    """Return every connection, the fleet's first. ``fleet_transport`` defaults to ``MAIL_TRANSPORT``."""
    states = list_connections(tx)
    choices = find_mail_choices(tx, sorted({state.shop_id for state in states if state.shop_id is not None}))
    transport = fleet_transport or get_settings().mail_transport
    slugs = find_slugs(tx)
    lines = []
    for state in states:
        choice = MailChoice() if state.shop_id is None else choices.get(state.shop_id)
        used = (choice.transport or transport) if choice else ""
        is_used = state.provider not in SECRETS or state.provider == used
        slug = "" if state.shop_id is None else slugs.get(state.shop_id, str(state.shop_id))
        sender = MailSender(state.provider, slug, is_own=bool(choice and choice.transport))
        to_do = ""
        if state.status != "ok":
            unused = "nothing: mail uses another transport now"
            to_do = _plan_to_do(state, sender) if is_used else unused
        lines.append(
            ConnectionLine(
                shop=slug or slugs.get(FLEET, "(fleet)"),
                provider=state.provider,
                status=state.status,
                is_used=is_used,
                since=state.since,
                updated_at=state.updated_at,
                code=state.code,
                detail=f"{state.resource}: {state.detail}" if state.resource else state.detail,
                to_do=to_do,
            )
        )
    return lines


def _plan_to_do(state: ConnectionState, sender: MailSender) -> str:
    remedy = REMEDIES.get(state.code)
    if remedy is None:
        return find_remedy(state.code, sender)
    todo = remedy.format(shop=sender.slug, resource=state.resource or "the refused resource")
    return f"{todo}; then celery -A tasks requeue --shop {sender.slug} --status dead (ok at the next call)"


def list_shop_lines(tx: Connection, shop_id: int, slug: str) -> list[ConnectionLine]:
    """Return the shop's connections, and the fleet's mail connection if the shop uses it."""
    has_own = bool(find_mail_choices(tx, [shop_id]))
    fleet = find_slugs(tx)[FLEET]
    return [
        line
        for line in list_connection_lines(tx)
        if line.shop == slug or (line.shop == fleet and line.is_used and not has_own)
    ]
