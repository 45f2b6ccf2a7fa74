"""The demo's people of harbour: a dozen who signed up, their consents, and one who unsubscribes."""

from datetime import datetime, timedelta

import httpx

from services.core.db import transaction
from services.demo.shops import DemoShop
from services.outreach.links import PATH
from services.outreach.people import import_people
from services.outreach.person import NewConsent, NewPerson
from services.shops.shops import set_shop

PEOPLE = 12
REMINDED = 9
"""One was active today, one has no consent, and the consent of one has ended."""

_FIND_LINK = """
select headers ->> 'List-Unsubscribe' from mail_outbox where kind = 'outreach_mail' order by id limit 1
"""


def import_demo_people(shop: DemoShop, now: datetime) -> None:
    """Import the people of ``shop`` and name its sender. It is midday in their zone: no quiet hours."""
    hours = 12 - now.hour
    zone = f"Etc/GMT{-hours:+d}" if hours else "UTC"
    given_at = now - timedelta(days=40)
    people = []
    for number in range(1, PEOPLE + 1):
        ends_at = now - timedelta(days=1) if number == 3 else now + timedelta(days=600)
        consent = NewConsent(basis="implied", source="order", given_at=given_at, expires_at=ends_at)
        people.append(
            NewPerson(
                external_id=f"u-{number:02}",
                email=f"person{number}@harbour-people.example",
                name=f"Person {number}",
                timezone=zone,
                signed_up_at=given_at,
                last_active_at=now if number == 1 else now - timedelta(days=number + 2),
                consent=None if number == 2 else consent,
            )
        )
    with transaction() as tx:
        sender = {"postal_address": "1 Wharf St, Victoria BC V8W 1A1, Canada",
                  "mail_contact": "hello@harbour.example"}  # fmt: skip
        stored = set_shop(tx, shop.slug, sender, now=now, by="demo")
        import_people(tx, stored.id, people, by="demo", now=now)


def unsubscribe_first(ingress: str) -> str:
    """Click the link of the first reminder; return what the page says after the click, or its status."""
    with transaction() as tx:
        link = str(tx.exec_driver_sql(_FIND_LINK).scalar() or "")
    token = link.rstrip(">").rpartition(PATH)[2]
    shown = httpx.get(f"{ingress}{PATH}{token}", timeout=10)
    done = httpx.post(f"{ingress}{PATH}{token}", data={"List-Unsubscribe": "One-Click"}, timeout=10)
    return f"{shown.status_code}, then {done.status_code}"
