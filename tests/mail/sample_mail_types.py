"""Every kind of mail with its sample, as the tests look at it; and a kind of the tests' own."""

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import import_module
from io import BytesIO
from typing import Any

from PIL import Image

from services.cli.mail.preview import KIND_MODULES, MadeUpShop
from services.mail.compose import compose
from services.mail.mail_types import MailShop, MailType, get_mail_type, list_mail_types, register_mail_type
from services.mail.message import Attachment, Mail

for module in KIND_MODULES:
    import_module(module)

NOW = datetime(2026, 11, 21, 18, 30, tzinfo=UTC)
KINDS = tuple(kind.name for kind in list_mail_types() if kind.package.startswith("services."))


def png() -> bytes:
    """Return a small picture."""
    out = BytesIO()
    Image.new("RGB", (4, 4), "#12694a").save(out, "PNG")
    return out.getvalue()


def chart() -> Attachment:
    """Return the picture that the letter shows."""
    return Attachment(name="chart.png", content_type="image/png", content=png())


def _sample(_shop: MailShop | None, _now: datetime) -> Mapping[str, Any]:
    return {"who": "Ada"}


LETTER = register_mail_type(
    MailType(
        name="letter_with_picture",
        package="tests.mail",
        about="a letter of the tests",
        reader="a test",
        why="You get this because a test asked for it.",
        sample=_sample,
        can_unsubscribe=True,
        images=lambda: {"chart": chart()},
    )
)


def sample_mail(name: str, shop: MailShop | None = None, **changed: Any) -> Mail:
    """Return the mail of a kind's sample for a made-up shop."""
    kind, where = get_mail_type(name), shop or MadeUpShop()
    wanted: dict[str, Any] = {"shop": where, "recipient": "owner@example.com", "period": "2026-11-20"}
    return compose(name, kind.sample(where, NOW), **(wanted | changed))
