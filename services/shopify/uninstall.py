"""Topic ``uninstall_confirm``: the app counts as uninstalled once Shopify refuses the stored token.

``app/uninstalled`` has the payload of ``shop/update``, and its topic is only in a header, which Shopify does
not sign. So the event alone changes nothing: the handler calls the shop with the stored token, which Shopify
refuses with 401 after an uninstall
(https://shopify.dev/docs/apps/build/authentication-authorization/access-tokens).
"""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from services.alerts.incidents import Incident, record_incidents, resolve_incident
from services.audit.chain import Mutation
from services.core.clock import utc_now
from services.core.errors import Misconfigured, Refused, WorkError
from services.core.fields import Unreadable
from services.core.locks import lock_objects
from services.core.times import format_time
from services.ledger.audit_text import audit_entry
from services.ledger.filters import WorkFilter
from services.ledger.requeue import requeue
from services.ledger.work import Done, FollowUp, Outcome, PreparedCall, WorkItem
from services.shopify.entities import EPOCH, EntityState, find_states, write_states
from services.shopify.payload import read_event
from services.shopify.shop_access import get_access, open_admin_with_stored_token, renew_token
from services.shopify.shop_profile import (
    STOREFRONTS,
    UNCONFIRMED,
    UNINSTALLED,
    ShopIdentity,
    check_shop_payload,
    find_identities,
    list_dead_erasures,
)
from services.shops.secrets import SECRETS_KEPT, find_recorded_at, retire_secrets

TOKENS = ("shopify-token", "shopify-refresh-token")
NOT_CONFIRMED = "shopify_uninstall_not_confirmed"

_UNCALLABLE = (
    "the shop has no token to call Shopify with, so the uninstall stays unconfirmed and nothing changed: "
    "discard this and close its incident; an erasure is confirmed with `fleet privacy confirm`"
)

_FIND = """
select s.slug, t.updated_at, t.uninstalled_at from shops s left join storefronts t on t.shop_id = s.id
 where s.id = %(shop_id)s
"""


def check_uninstalled(shop_id: int) -> bool:
    """Return whether Shopify refuses the shop's stored token, as it does once the app is uninstalled.

    Only 401 counts, and only for a token that has not expired: another one is renewed first, and a refused
    renewal proves nothing. 403 refuses one request, not the token. Call it without an open transaction.
    Raises ``Misconfigured`` without a token, and the error of a call that proves neither.
    """
    access = get_access(shop_id)
    unauthorized, expires_at = False, access.token_expires_at
    is_unexpired = expires_at is not None and expires_at > utc_now()

    def renew(token: str) -> str:
        nonlocal unauthorized
        unauthorized = True
        return renew_token(shop_id, token)

    try:
        open_admin_with_stored_token(access, renew).fetch_domain()
    except Misconfigured as fault:
        # A refused refresh token counts only if Shopify also refused a token that had not expired.
        proofs = ("shopify.token_refused", *(["shopify.refresh_refused"] if is_unexpired else []))
        if unauthorized and fault.code in proofs:
            return True
        raise
    return False


class UninstallConfirmHandler:
    """Handler of the topic ``uninstall_confirm``."""

    def prepare(
        self, tx: Connection, items: Sequence[WorkItem], now: datetime
    ) -> Sequence[PreparedCall | Outcome]:
        """Return the call that confirms each item, and open an incident until it is confirmed.

        The outcome is ``stale`` if a token or another event is newer: the app was installed again.
        """
        return [_prepare(tx, item, now) for item in items]


def _prepare(tx: Connection, item: WorkItem, now: datetime) -> PreparedCall | Outcome:
    try:
        identity = find_identities(tx, [item.shop_id]).get(item.shop_id, ShopIdentity())
        check_shop_payload(read_event(item), identity)
    except Unreadable as fault:
        return Refused(fault.code or STOREFRONTS.unreadable, str(fault))
    gone_at = min(item.event_time(now), now)
    shop = tx.exec_driver_sql(_FIND, {"shop_id": item.shop_id}).one()
    recorded_at = find_recorded_at(tx, item.shop_id, TOKENS)
    if max(recorded_at or EPOCH, shop.updated_at or EPOCH, shop.uninstalled_at or EPOCH) >= gone_at:
        resolve_incident(tx, item.shop_id, NOT_CONFIRMED, None, now, "The app is installed again.")
        return Done("stale")
    summary = (
        f"{shop.slug}: app/uninstalled was received at {format_time(gone_at)} and is not "
        "confirmed: nothing changes until Shopify refuses the stored token. `celery -A tasks requeue "
        f"--topic uninstall_confirm --shop {shop.slug}` checks again."
    )
    incident = Incident(item.shop_id, NOT_CONFIRMED, f"{gone_at:%Y-%m-%d}", "P2", summary)
    record_incidents(tx, [incident], now)
    return PreparedCall(item=item, act=partial(_confirm, item, shop.slug, gone_at))


def _confirm(item: WorkItem, slug: str, gone_at: datetime) -> Outcome:
    try:
        is_gone = check_uninstalled(item.shop_id)
    except WorkError as fault:
        if fault.code != "shopify.no_token":
            return fault
        return Misconfigured(fault.code, f"{_UNCALLABLE}: `fleet incidents list --shop {slug}`")
    if not is_gone:
        detail = "Shopify accepts the stored token, so our app is installed: nothing was changed"
        return Refused("shopify.still_installed", detail)
    return Done("uninstalled", lambda tx: record_uninstalled(tx, item, slug, gone_at, utc_now()))


def record_uninstalled(
    tx: Connection, item: WorkItem, slug: str, gone_at: datetime, now: datetime
) -> FollowUp:
    """Record that the app is uninstalled since ``gone_at``, retire its tokens, and requeue waiting erasures.

    Later pushes end as ``shopify.no_token`` without a call. A P2 incident contains the instructions.
    """
    shop_id, day = item.shop_id, f"{gone_at:%Y-%m-%d}"
    key = (shop_id, shop_id)
    lock_objects(tx, [STOREFRONTS.lock_of(key)])
    state = find_states(tx, [key], STOREFRONTS).get(key, EntityState(None))
    write_states(tx, {key: state._replace(deleted_at=gone_at)}, {key: item}, STOREFRONTS)
    summary = (
        f"{slug}: our app was uninstalled at {format_time(gone_at)}, and Shopify refuses its token: "
        "no stock is pushed and nothing is read. If that was a mistake, install the app again, "
        f"`fleet shops secret {slug} shopify-token --stdin`, then requeue dead work; if the shop left, "
        "there is nothing to do."
    )
    record_incidents(tx, [Incident(shop_id, UNINSTALLED, day, "P2", summary)], now)
    resolve_incident(tx, shop_id, NOT_CONFIRMED, None, now, "Shopify refuses the token: confirmed.")
    kept = f"kept sealed for {SECRETS_KEPT.days} days"
    mutations = [
        Mutation("storefronts", str(shop_id), "our app was uninstalled", None, {"uninstalled_at": gone_at}),
        *(
            Mutation("shop_secrets", f"{shop_id}/{name}", f"retired {name}, {kept}")
            for name in retire_secrets(tx, shop_id, TOKENS, now)
        ),
    ]
    if waiting := list_dead_erasures(tx, shop_id):
        erasures = WorkFilter(ids=tuple(waiting), statuses=("dead",))
        requeue(tx, erasures, now=now, by="uninstall_confirm", reason=f"{UNCONFIRMED}: confirmed now")
    return FollowUp((), [audit_entry(item, mutations)])


def record_installed(tx: Connection, shop_id: int, now: datetime) -> None:
    tx.exec_driver_sql(
        "update storefronts set uninstalled_at = null where shop_id = %(shop_id)s", {"shop_id": shop_id}
    )
    resolve_incident(tx, shop_id, UNINSTALLED, None, now, "The token is in use again.")
