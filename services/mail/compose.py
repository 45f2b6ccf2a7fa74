"""Renders a mail from its type's templates and a context. Pure, except that templates are read once.

Uses no clock, database or network: the same context gives the same mail. So it can be composed inside the
transaction that decides that it is due.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from services.core.log_redaction import quote_value
from services.mail.formatting import FILTERS, finalize, moment, one_line
from services.mail.message import Attachment, Mail, MailInvalid, MailType
from services.mail.template_loader import load_source
from services.shops.shops import Shop

if TYPE_CHECKING:
    from jinja2 import Environment, Template

SUBJECT_CHARACTERS = 180
_UNSUBSCRIBE = ("https://", "mailto:", "http://localhost", "http://127.0.0.1")
"""Beginnings of a way to unsubscribe; those without encryption are of this machine."""
PREVIEW_CHARACTERS = 160
_FILLER = ("&#847;&zwnj;&nbsp;" * 20 + "\n") * 3
"""Invisible characters that keep the mail's first words out of the mailbox's preview line. As references, so
that an English mail is ASCII, which needs no encoding."""


class MailTemplates(NamedTuple):
    """The templates of a mail type, and the names that their context has."""

    subject: "Template"
    preview: "Template"
    text: "Template"
    html: "Template"
    names: frozenset[str]


def compose_mail(
    mail_type: MailType,
    context: Mapping[str, Any],
    *,
    shop: Shop | None,
    recipient: str,
    period: str,
    zone: tzinfo | None = None,
    attachments: Sequence[Attachment] = (),
    images: Mapping[str, Attachment] | None = None,
    unsubscribe: str = "",
) -> Mail:
    """Return the mail of ``mail_type`` with ``context``: subject, preview, text and HTML.

    ``shop`` None is a mail of the whole fleet. Times are in ``zone`` (default: the shop's, else UTC). The
    HTML shows ``images`` with ``image('name')``. ``unsubscribe`` is an https URL or a ``mailto:``, for mail
    types that can be unsubscribed. Raises ``MailInvalid`` if a name of the context is missing or unknown,
    and for an image that the HTML does not show.
    """
    templates = _load_templates(mail_type)
    _check(mail_type, templates, context, recipient, unsubscribe)
    inline = {
        name: image if image.content_id else replace(image, content_id=f"{name}@shopfleet")
        for name, image in (images or {}).items()
    }
    not_shown = set(inline)

    def show_image(name: str) -> str:
        if name not in inline:
            raise MailInvalid(f"mail {mail_type.name!r} shows the image {name!r}, which was not given")
        not_shown.discard(name)
        return f"cid:{inline[name].content_id}"

    values: dict[str, Any] = {
        **context,
        "shop": shop,
        "zone": zone or (shop.zone if shop else UTC),
        "why": mail_type.why,
        "unsubscribe": unsubscribe,
        "image": show_image,
        "attachments": attachments,
        "filler": _FILLER,
    }
    subject = values["subject"] = _cut(templates.subject.render(values), SUBJECT_CHARACTERS)
    preview = values["preview"] = _cut(templates.preview.render(values), PREVIEW_CHARACTERS)
    text, html = templates.text.render(values), templates.html.render(values)
    if not_shown:  # the mailbox would show it as an attachment
        raise MailInvalid(f"mail {mail_type.name!r} does not show {', '.join(sorted(not_shown))}")
    return Mail(
        shop_id=shop.id if shop else None,
        kind=mail_type.name,
        period=period,
        recipient=recipient,
        subject=subject,
        text=text,
        html=html,
        preview=preview,
        attachments=tuple(attachments),
        inline=tuple(inline.values()),
        list_unsubscribe=unsubscribe,
    )


def _check(
    mail_type: MailType,
    templates: MailTemplates,
    context: Mapping[str, Any],
    recipient: str,
    unsubscribe: str,
) -> None:
    name, wanted, given = mail_type.name, templates.names, context.keys()
    if given != wanted:
        raise MailInvalid(
            f"mail {name!r} needs exactly {', '.join(sorted(wanted))}; "
            f"missing: {', '.join(sorted(wanted - given)) or 'none'}; "
            f"unknown: {', '.join(sorted(given - wanted)) or 'none'}"
        )
    if "@" not in recipient or recipient != one_line(recipient) or " " in recipient:
        wanted_address = "should be one mail address such as owner@example.com"
        raise MailInvalid(f"recipient {quote_value(recipient)} {wanted_address}")
    if bool(unsubscribe) != mail_type.can_unsubscribe:
        rule = "needs a way to unsubscribe" if mail_type.can_unsubscribe else "cannot be unsubscribed"
        raise MailInvalid(f"mail {name!r} {rule}; unsubscribe is {unsubscribe!r}")
    if unsubscribe and (not unsubscribe.startswith(_UNSUBSCRIBE) or set(unsubscribe) & set(" \r\n<>")):
        raise MailInvalid(f"unsubscribe {unsubscribe!r} should be an https URL or a mailto:")


def _cut(text: str, characters: int) -> str:
    line = one_line(text).strip()
    return line if len(line) <= characters else line[: characters - 1].rstrip() + "…"


@cache
def _load_templates(mail_type: MailType) -> MailTemplates:
    subject, preview, text, html = load_source(mail_type.package, mail_type.name)
    plain, marked = _make_environment(autoescape=False), _make_environment(autoescape=True)
    return MailTemplates(
        subject=plain.from_string(subject),
        preview=plain.from_string(preview),
        text=plain.from_string(text),
        html=marked.from_string(html),
        names=frozenset(mail_type.sample(None, datetime(2026, 1, 1, tzinfo=UTC))),
    )


@cache
def _make_environment(*, autoescape: bool) -> "Environment":
    from jinja2 import Environment, StrictUndefined, pass_context

    environment = Environment(
        autoescape=autoescape,  # noqa: S701 - off for subject, preview and plain text, which are not HTML
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.clear()  # each rendering would copy them, and no template uses one
    environment.filters.update(FILTERS, moment=pass_context(moment))
    return environment
