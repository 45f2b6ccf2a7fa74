"""SecretCache: all webhook secrets, shop domains and refusing pauses in memory, a few seconds old at most.

A webhook is verified without a query. For an unknown shop or a wrong signature one small query checks for
changes, so that a new secret is found at once.
"""

import threading
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Engine, text

from services.core.db import transaction
from services.core.settings import get_settings
from services.ledger.work import FLEET
from services.providers.registry import WEBHOOK_PROVIDERS
from services.shops.secrets import WebhookKey, list_webhook_keys

REFRESH_SECONDS = 2.0
FLEET_SLUG = "fleet"
"""In the place of a shop's slug in the URL of a webhook: the fleet's own account."""

_VERSION = """
select (select coalesce(max(id), 0) from shop_secrets),
       (select count(*) from shop_secrets where name not like 'retired:%'),
       (select coalesce(max(id), 0) from shops),
       (select count(*) from shop_config where settings ? 'removed_at'),
       (select coalesce(sum(id), 0) from pauses where mode = 'refuse'),
       (select coalesce(sum(hashtextextended(shopify_domain || former_shopify_domains::text, shop_id)), 0)
          from shop_config)
"""

# Earlier versions accepted other domains; Shopify never sends one, so they are not compared.
_DOMAINS = """
select shop_id, array_append(former_shopify_domains, shopify_domain) as domains from shop_config
 where right(shopify_domain, 14) = '.myshopify.com'
"""


_SHOPS = """
select s.slug, s.id, coalesce(c.settings ? 'removed_at', false) as is_removed
  from shops s left join shop_config c on c.shop_id = s.id
"""


@dataclass(frozen=True, slots=True)
class SecretSnapshot:
    """The data of one reading."""

    keys: dict[tuple[str, str], WebhookKey] = field(default_factory=dict, repr=False)
    shop_ids: dict[str, int] = field(default_factory=dict)
    domains: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Shopify domains by shop id, in lower case, the current one last. Shops without a domain are absent."""
    removed: frozenset[int] = frozenset()
    """Ids of removed shops: their webhooks are verified and ignored."""
    refusals: tuple[tuple[str | None, str | None, int | None], ...] = ()
    """Queue, topic and shop id of each pause in mode ``refuse``; None means any."""
    version: tuple[int, ...] = ()


def read_snapshot(engine: Engine, known: SecretSnapshot) -> SecretSnapshot:
    """Return the current snapshot, or ``known`` if nothing changed."""
    with transaction(engine) as tx:
        version = tuple(int(part) for part in tx.execute(text(_VERSION)).one())
        if version == known.version:
            return known
        keys = [*list_webhook_keys(tx), *list_fleet_keys()]
        shops = tx.execute(text(_SHOPS)).all()
        domains = {
            row.shop_id: tuple(name.lower() for name in row.domains) for row in tx.exec_driver_sql(_DOMAINS)
        }
        refusals = tx.execute(text("select queue, topic, shop_id from pauses where mode = 'refuse'")).all()
    return SecretSnapshot(
        keys={(key.slug, key.name): key for key in keys},
        shop_ids={key.slug: FLEET for key in keys if key.shop_id == FLEET}
        | {row.slug: row.id for row in shops if not row.is_removed},
        removed=frozenset(row.id for row in shops if row.is_removed),
        domains=domains,
        refusals=tuple((row.queue, row.topic, row.shop_id) for row in refusals),
        version=version,
    )


def list_fleet_keys() -> list[WebhookKey]:
    """Return the secrets of the fleet's own accounts, from the settings; their slug is ``FLEET_SLUG``."""
    settings = get_settings()
    values = [
        (one.webhook_secret.name, getattr(settings, one.fleet_setting))
        for one in WEBHOOK_PROVIDERS.values()
        if one.fleet_setting
    ]
    return [WebhookKey(FLEET_SLUG, FLEET, name, (value,), (None,), (0,)) for name, value in values if value]


class SecretCache:
    """The newest snapshot, refreshed in the background. Before the first one no webhook can be verified."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.snapshot = SecretSnapshot()
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def start(self) -> None:
        """Read now, and then every ``REFRESH_SECONDS`` in a thread."""
        self.reload()
        threading.Thread(target=self._refresh, name="secret-cache", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def reload(self) -> bool:
        """Refresh the snapshot; return whether it is as the database was after this call began.

        The last snapshot stays in use while the database is unreachable.
        """
        if not self._lock.acquire(timeout=0.1):
            return False  # another thread is refreshing, and the database is slow
        try:
            self.snapshot = read_snapshot(self._engine, self.snapshot)
        except Exception:  # noqa: BLE001 - the last snapshot stays in use
            return False
        finally:
            self._lock.release()
        return True

    def _refresh(self) -> None:
        while not self._stop.wait(REFRESH_SECONDS):
            self.reload()

    def is_refused(self, shop_id: int, queue: str, topic: str) -> bool:
        """Return whether a pause refuses this shop, queue or topic."""
        return any(
            paused in (None, queue) and kind in (None, topic) and shop in (None, shop_id)
            for paused, kind, shop in self.snapshot.refusals
        )


def live_secrets(key: WebhookKey | None, now: datetime) -> list[bytes]:
    """Return the secrets to try; a dummy if there is none, so that a refusal takes the same time."""
    values = key.live_values(now) if key else ()
    return [value.encode() for value in values] or [_DUMMY]


_DUMMY = b"bm9ib2R5J3Mgc2VjcmV0LCB0cmllZCB3aGVyZSB0aGVyZSBpcyBub25l"
