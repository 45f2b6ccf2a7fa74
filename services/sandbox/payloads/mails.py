"""Bodies of webhooks about mails that a shop receives: of any sender, and of Resend. Pure."""

import random
from datetime import datetime

from services.sandbox.payloads.templates import Body, uuid_text

_SUBJECTS = ("Order question", "Rechnung, bitte", "Return of a candle", "営業時間について")


def make_mail(rng: random.Random, *, sent_at: datetime, recipient: str, provider: str) -> Body:
    """Return a customer's mail: Resend's ``email.received`` if ``provider`` is ``resend``.

    Otherwise the documented JSON of ``/webhooks/standard/SHOP/mail``. Resend's event has no text.
    """
    person, at = rng.randrange(10, 100), sent_at.isoformat()
    mail: Body = {
        "from": f"Customer {person} <customer{person}@people.example>",
        "to": [recipient],
        "subject": rng.choice(_SUBJECTS),
    }
    if provider == "resend":
        data = {"email_id": uuid_text(rng), "created_at": at, **mail}
        return {"type": "email.received", "created_at": at, "data": data}
    return {"id": uuid_text(rng), **mail, "text": "Hello,\n\ncould you help me?\n\nThank you", "at": at}
