"""The mails of a series: the usual texts, a shop's own, and the sender that the law requires."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from services.core.errors import Misconfigured
from services.mail.compose import compose_mail
from services.mail.formatting import day
from services.mail.message import Mail, MailType
from services.outreach.links import PATH, make_token
from services.outreach.plan import PersonPlan, load_zone
from services.outreach.series import Series
from services.outreach.texts import PLACEHOLDERS, USUAL, OutreachText
from services.shops.shops import Shop

_PLACE = re.compile(rf"\{{({'|'.join(PLACEHOLDERS)})\}}")


def check_sender(shop: Shop, public_url: str) -> None:
    """Raise ``Misconfigured`` naming all that the shop and the fleet lack for commercial mail."""
    faults = []
    if missing := [name for name in ("postal_address", "mail_contact") if not getattr(shop, name)]:
        options = " ".join(f"--{name.replace('_', '-')} TEXT" for name in missing)
        faults.append(
            f"commercial mail names its sender, and {shop.slug} has no {' and no '.join(missing)}: "
            f"`fleet shops set {shop.slug} {options}`"
        )
    if not public_url:
        faults.append(
            "PUBLIC_URL is not set, so no mail can have a link to unsubscribe: set it to the address of the "
            "ingress"
        )
    if faults:
        raise Misconfigured("outreach.no_sender", "; ".join(faults))


def compose(
    series: Series,
    plan: PersonPlan,
    shop: Shop,
    texts: Mapping[tuple[str, str], OutreachText],
    public_url: str,
) -> Mail:
    """Return the mail of a person's step. Pure."""
    person = plan.person
    text = texts[series.name, plan.step if series.steps else ""]
    return compose_mail(
        OUTREACH_MAIL,
        plan_mail(text, shop, person.name, person.last_active_at or person.signed_up_at, person.timezone),
        shop=shop,
        recipient=person.email,
        period=f"{series.name}/{plan.step}/{person.id}",
        unsubscribe=public_url + PATH + make_token(person.id, series.name, person.link_key),
    )


def plan_mail(text: OutreachText, shop: Shop, name: str, active_at: datetime, zone: str) -> dict[str, Any]:
    """Return the context of ``outreach_mail``."""
    last_active = day(active_at.astimezone(load_zone(zone or shop.timezone)).date())
    values = {"name": name, "shop": shop.name, "last_active": last_active}
    subject, body = (_fill(one, values) for one in text)
    paragraphs = [one for part in body.split("\n\n") if (one := " ".join(part.split()))]
    return {
        "subject_line": subject,
        "lead": paragraphs[min(1, len(paragraphs) - 1)],
        "paragraphs": paragraphs,
        "postal_address": shop.postal_address,
        "contact": shop.mail_contact,
    }


def _fill(text: str, values: Mapping[str, str]) -> str:
    if not values["name"]:
        text = text.replace(" {name}", "")
    return _PLACE.sub(lambda place: values[place[1]], text)


def make_sample(
    shop: Shop | None, now: datetime, text: OutreachText = USUAL["reminders", ""]
) -> Mapping[str, Any]:
    """Return the context of a sample of ``outreach_mail`` with ``text``; without a shop, an empty one."""
    if shop is None:
        return dict.fromkeys(("subject_line", "lead", "postal_address", "contact"), "") | {"paragraphs": []}
    values = plan_mail(text, shop, "Ada", now - timedelta(days=3), "")
    usual = {"postal_address": "1 Main St, Victoria BC V8W 1A1, Canada", "contact": "hello@example.com"}
    return values | {name: values[name] or usual[name] for name in usual}


OUTREACH_MAIL = MailType(
    name="outreach_mail",
    package="services.outreach",
    about="a reminder, or a step of a sequence after the sign-up",
    reader="people of a shop with a consent, express or implied",
    why="You get this because you signed up with us. One click ends it.",
    sample=make_sample,
    can_unsubscribe=True,
)
