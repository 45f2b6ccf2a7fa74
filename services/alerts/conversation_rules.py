"""The rules about calls, messages and mails on pages of Notion."""

from datetime import timedelta

from services.alerts.rule import MINUTES_2, FigureRule

MINUTES_15 = timedelta(minutes=15)
_SHARES = (
    ("canvas_expiring", "entries of the canvas cache have less than 6 h left", "entries", 30, 60),
    ("canvas_stale", "entries of the canvas cache have expired", "entries", 20, 50),
    ("notion_drift", "pages of merchants at Notion differed from the database", "pages", 5, 20),
    ("merchants_without_page", "merchants have no page at Notion", "merchants", 10, 30),
)

CONVERSATIONS = (
    FigureRule(
        name="canvas_invalidated",
        severity="P3",
        about="the cached page of a merchant was invalidated again and again",
        summary="invalidations of the page of merchant {subject} in 30 days: {value:.0f}",
        unit="invalidations in 30 d",
        threshold=3,
        lowest=1,
        is_inclusive=True,
        window=timedelta(days=30),
        clears=MINUTES_2,
    ),
    FigureRule(
        name="conversations_failing",
        severity="P3",
        about="steps of calls, messages and mails fail again and again",
        summary="items of {topic} that failed and are tried again: {value:.0f} "
        "(limit {limit:g}), mostly with {code}",
        unit="items that failed",
        threshold=10,
        fails_at=100,
        lasts=MINUTES_15,
    ),
    *(
        FigureRule(
            name=name,
            severity="P3",
            about=f"many {about}",
            summary=f"{name}: {{value:.0f}}% of {{{unit}}} (limit {{limit:g}}%)",
            unit=f"% of the {unit}",
            threshold=threshold,
            fails_at=fails_at,
            lasts=MINUTES_15,
        )
        for name, about, unit, threshold, fails_at in _SHARES
    ),
)
