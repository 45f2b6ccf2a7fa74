"""Who may send: every shop's webhook secrets and domains and what is paused, in memory, seconds old at most.

A webhook is judged without asking the database. A secret that was just set is not missed: for an
unknown shop, or a signature that does not match, one small query asks whether anything is new.
"""

import threading
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Engine, text

from services.core.db import transaction
from services.shops.secrets import WebhookKey, find_webhook_keys

REFRESH_SECONDS = 2.0

_VERSION = """
select (select coalesce(max(id), 0) from shop_secrets),
       (select count(*) from shop_secrets where name not like 'retired:%'),
       (select coalesce(max(id), 0) from shops),
       (select coalesce(sum(id), 0) from pauses where mode = 'refuse'),
       (select coalesce(sum(hashtextextended(shopify_domain || former_shopify_domains::text, shop_id)), 0)
          from shop_config)
"""

# A domain of another form was accepted once, and Shopify names no such domain: it is compared with nothing.
_DOMAINS = """
select shop_id, array_append(former_shopify_domains, shopify_domain) from shop_config
 where right(shopify_domain, 14) = '.myshopify.com'
"""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A pause in mode ``refuse``; None means "any"."""

    queue: str | None
    topic: str | None
    shop_id: int | None


@dataclass(frozen=True, slots=True)
class Ring:
    """One reading of the database."""

    keys: dict[tuple[str, str], WebhookKey] = field(default_factory=dict, repr=False)
    shop_ids: dict[str, int] = field(default_factory=dict)
    domains: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """By shop: its domains at Shopify in lower case, the current one last. Only shops that have one."""
    refusals: tuple[Refusal, ...] = ()
    version: tuple[int, ...] = ()


def read_ring(engine: Engine, known: Ring) -> Ring:
    """Return what the database says now: ``known`` itself where nothing is new."""
    with transaction(engine) as tx:
        version = tuple(int(part) for part in tx.execute(text(_VERSION)).one())
        if version == known.version:
            return known
        keys = find_webhook_keys(tx)
        shops = tx.execute(text("select slug, id from shops")).all()
        domains = {row[0]: tuple(name.lower() for name in row[1]) for row in tx.exec_driver_sql(_DOMAINS)}
        refusals = tx.execute(text("select queue, topic, shop_id from pauses where mode = 'refuse'")).all()
    return Ring(
        keys={(key.slug, key.name): key for key in keys},
        shop_ids={row.slug: row.id for row in shops},
        domains=domains,
        refusals=tuple(Refusal(*row) for row in refusals),
        version=version,
    )


class Keyring:
    """The newest ring, refreshed behind the requests. Without a first reading nobody can be judged."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ring = Ring()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether the database has been read at least once."""
        return bool(self._ring.version)

    @property
    def ring(self) -> Ring:
        """The newest reading."""
        return self._ring

    def start(self) -> None:
        """Read now, and then every ``REFRESH_SECONDS`` in a thread of its own."""
        self.reload()
        self._thread = threading.Thread(target=self._refresh, name="keyring", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()

    def reload(self) -> None:
        """The ring is what the database says now, unless it is away."""
        if not self._lock.acquire(timeout=0.1):
            return  # somebody is looking, and the database is slow to answer
        try:
            self._ring = read_ring(self._engine, self._ring)
        except Exception:  # noqa: BLE001 - the last reading serves on while the database is away
            return
        finally:
            self._lock.release()

    def _refresh(self) -> None:
        while not self._stop.wait(REFRESH_SECONDS):
            self.reload()

    def is_refused(self, shop_id: int, queue: str, topic: str) -> bool:
        """Tell whether somebody paused this shop, queue or topic so that the provider keeps the event."""
        return any(
            r.queue in (None, queue) and r.topic in (None, topic) and r.shop_id in (None, shop_id)
            for r in self._ring.refusals
        )


def live_secrets(key: WebhookKey | None, now: datetime) -> list[bytes]:
    """Return the secrets to try. Nobody's secret stands in for none, so that a refusal costs the same."""
    values = key.live_values(now) if key else ()
    return [value.encode() for value in values] or [_NOBODYS]


_NOBODYS = b"bm9ib2R5J3Mgc2VjcmV0LCB0cmllZCB3aGVyZSB0aGVyZSBpcyBub25l"
