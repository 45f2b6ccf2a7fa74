"""Every mail type with its sample, and one that the tests define."""

from collections.abc import Mapping
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

from PIL import Image

from services.cli.mail.preview import MAIL_TYPES, SAMPLE_SHOP
from services.mail.compose import compose_mail
from services.mail.message import Attachment, Mail, MailType
from services.shops.shops import Shop

NOW = datetime(2026, 11, 21, 18, 30, tzinfo=UTC)
KINDS = tuple(MAIL_TYPES)


def png() -> bytes:
    """Return a small picture."""
    out = BytesIO()
    Image.new("RGB", (4, 4), "#12694a").save(out, "PNG")
    return out.getvalue()


def chart() -> Attachment:
    """Return the picture that the letter shows."""
    return Attachment(name="chart.png", content_type="image/png", content=png())


def _sample(_shop: Shop | None, _now: datetime) -> Mapping[str, Any]:
    return {"who": "Ada"}


LETTER = MailType(
    name="letter_with_picture",
    package="tests.mail",
    about="a letter of the tests",
    reader="a test",
    why="You get this because of a test.",
    sample=_sample,
    can_unsubscribe=True,
    images=lambda: {"chart": chart()},
)


def sample_mail(name: str, shop: Shop | None = None, **changed: Any) -> Mail:
    """Return the mail of a type's sample for a sample shop."""
    mail_type, where = LETTER if name == LETTER.name else MAIL_TYPES[name], shop or SAMPLE_SHOP
    wanted: dict[str, Any] = {"shop": where, "recipient": "owner@example.com", "period": "2026-11-20"}
    if mail_type.can_unsubscribe and mail_type is not LETTER:
        wanted["unsubscribe"] = "https://hooks.example.com/unsubscribe/1"
    return compose_mail(mail_type, mail_type.sample(where, NOW), **(wanted | changed))
