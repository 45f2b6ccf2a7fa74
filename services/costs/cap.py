"""The AI cap: the AI work of a shop at its cap is paused until the month ends or the cap is raised."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection

from services.core.locks import lock_objects
from services.costs.month import AI, MonthCosts
from services.costs.store import list_month_costs
from services.ledger.accept import WorkRef, record_work
from services.ledger.pause import MODES, PauseScope, clear_pauses, list_pauses, record_pause
from services.ledger.work import FLEET, NewWork
from services.mail.compose import compose_mail
from services.mail.message import MailType
from services.mail.outbox import record_mails
from services.shops.shops import Shop, get_shop_by_id

BY = "ai-cap"
"""Who made the pause: only such a pause ends by itself when the cap is raised."""


def apply_ai_caps(tx: Connection, now: datetime) -> list[WorkRef]:
    """Pause the AI work of each shop at its cap, and resume it below; return the work that mails the owners.

    The pause ends with the month in the shop's zone. A pause by a person stays as it is, and never ends here.
    The owner gets one mail a month, also if a person has paused the work.
    """
    lock_objects(tx, [(FLEET, "ai-caps")])  # two workers must not pause and mail at the same time
    costs = {one.shop_id: one for one in list_month_costs(tx, now, kinds=[AI]) if one.is_at_limit}
    paused = {
        one.scope.shop_id: one
        for one in list_pauses(tx)
        if one.mode in MODES and one.scope == PauseScope(cost=AI, shop_id=one.scope.shop_id)
    }
    over = [one.scope for shop, one in paused.items() if one.created_by == BY and shop not in costs]
    clear_pauses(tx, over, None, now=now, by=BY, reason="the AI costs of the month are below the cap")
    work: list[NewWork] = []
    for shop_id, one in costs.items():
        pause = paused.get(shop_id)
        shop = get_shop_by_id(tx, shop_id)
        if pause is not None and pause.created_by != BY:
            work += _plan_mail(tx, shop, one, now, is_person_pause=True)
        elif pause is None or pause.ends_at != one.ends_at:
            reason = f"AI costs of {one.month} are {one.counted}, the cap is {one.limit}"
            if not shop.owner_email:
                reason += "; nobody was mailed, as the shop has no owner_email"
            scope = PauseScope(cost=AI, shop_id=shop_id)
            record_pause(tx, scope, "hold", ends_at=one.ends_at, now=now, by=BY, reason=reason)
            work += _plan_mail(tx, shop, one, now)
    return record_work(tx, work, now)


def _plan_mail(
    tx: Connection, shop: Shop, costs: MonthCosts, now: datetime, *, is_person_pause: bool = False
) -> list[NewWork]:
    if not shop.owner_email:
        return []
    facts = plan_cap_mail(costs, is_person_pause=is_person_pause)
    mail = compose_mail(AI_CAP_MAIL, facts, shop=shop, recipient=shop.owner_email, period=costs.month)
    return record_mails(tx, [mail], now)


def plan_cap_mail(costs: MonthCosts, *, is_person_pause: bool = False) -> dict[str, Any]:
    """Return the context of the mail about a reached cap.

    ``is_person_pause``: a person has paused the work, so the end of the month does not resume it.
    """
    return {
        "month_name": f"{date.fromisoformat(costs.month + '-01'):%B %Y}",
        "spent": costs.spent,
        "counted": costs.counted,
        "cap": costs.limit,
        "resumes_at": costs.ends_at,
        "is_person_pause": is_person_pause,
    }


def _sample(shop: Shop | None, now: datetime) -> Mapping[str, Any]:
    currency = shop.currency if shop else "CAD"
    return plan_cap_mail(
        MonthCosts(
            shop_id=0, shop="harbour", timezone=shop.timezone if shop else "UTC", kind=AI,
            month=f"{now:%Y-%m}", micros={currency: 50_120_000}, limit=f"50.00 {currency}", rates="",
        )
    )  # fmt: skip


AI_CAP_MAIL = MailType(
    name="ai_cap",
    package="services.costs",
    about="the AI costs of the month have reached the cap, and AI work is paused",
    reader="shop owner",
    why="You get this because your shop has a monthly cap on AI costs. At most one mail a month.",
    sample=_sample,
)
