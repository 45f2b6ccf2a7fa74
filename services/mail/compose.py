"""A kind's words and a shop's facts become one complete mail. Pure but for reading templates once.

No clock, no database, no network: the same facts give the same mail, so it can be composed inside the
transaction that proves it is due.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import services.mail.system_mails  # noqa: F401 - whoever composes knows the kinds of this package
from services.core.redact import quote_value
from services.mail.formatting import FILTERS, finalize, moment, one_line
from services.mail.mail_types import MailInvalid, MailShop, MailType, get_mail_type
from services.mail.message import Attachment, Mail
from services.mail.template_loader import assemble

if TYPE_CHECKING:
    from jinja2 import Environment, Template

SUBJECT_CHARACTERS = 180
PREVIEW_CHARACTERS = 160
_FILLER = "\N{COMBINING GRAPHEME JOINER}\N{ZERO WIDTH NON-JOINER}\N{NO-BREAK SPACE}" * 60
"""Keeps the mail's first words out of the mailbox's preview line: joiners that show nothing."""


class Templates(NamedTuple):
    """What one kind is filled from."""

    subject: "Template"
    preview: "Template"
    text: "Template"
    html: "Template"
    facts: frozenset[str]


def compose(
    kind: str,
    facts: Mapping[str, Any],
    *,
    shop: MailShop | None,
    recipient: str,
    period: str,
    zone: tzinfo | None = None,
    attachments: Sequence[Attachment] = (),
    images: Mapping[str, Attachment] | None = None,
    unsubscribe: str = "",
) -> Mail:
    """Return the mail of ``kind`` with ``facts``: subject, preview, text and HTML say the same.

    ``shop`` None is a mail of the whole fleet; its moments are told in ``zone`` (default UTC), a shop's
    in the shop's own. ``images`` by name are shown where the HTML says ``image('name')``. ``unsubscribe``
    is an https URL or a ``mailto:``, for kinds that have one. ``MailTypeUnknown``; ``MailInvalid`` for facts
    that are missing or that the kind does not know, and for pictures that the HTML does not show.
    """
    known = get_mail_type(kind)
    ready = _templates(known)
    _check(known, ready, facts, recipient, unsubscribe)
    shown = _Images(kind, images or {})
    context: dict[str, Any] = {
        **facts,
        "shop": shop,
        "zone": zone or (shop.zone if shop else UTC),
        "why": known.why,
        "unsubscribe": unsubscribe,
        "image": shown.show,
        "attachments": attachments,
        "filler": _FILLER,
    }
    subject = context["subject"] = _cut(ready.subject.render(context), SUBJECT_CHARACTERS)
    preview = context["preview"] = _cut(ready.preview.render(context), PREVIEW_CHARACTERS)
    return Mail(
        shop_id=shop.id if shop else None,
        kind=kind,
        period=period,
        recipient=recipient,
        subject=subject,
        text=ready.text.render(context),
        html=ready.html.render(context),
        preview=preview,
        attachments=tuple(attachments),
        inline=shown.all_shown(),
        list_unsubscribe=unsubscribe,
    )


class _Images:
    """The pictures of one mail, and which of them its HTML shows."""

    def __init__(self, kind: str, images: Mapping[str, Attachment]) -> None:
        self._kind = kind
        self._parts = {
            name: part if part.content_id else replace(part, content_id=f"{name}@shopfleet")
            for name, part in images.items()
        }
        self._unseen = set(images)

    def show(self, name: str) -> str:
        """Return the address of picture ``name`` inside the mail."""
        if name not in self._parts:
            raise MailInvalid(f"mail {self._kind!r} shows a picture {name!r} that it was not given")
        self._unseen.discard(name)
        return f"cid:{self._parts[name].content_id}"

    def all_shown(self) -> tuple[Attachment, ...]:
        """Return the pictures; one that is not shown would stand among the attachments, unexplained."""
        if self._unseen:
            raise MailInvalid(f"mail {self._kind!r} does not show {', '.join(sorted(self._unseen))}")
        return tuple(self._parts.values())


def _check(
    kind: MailType, ready: Templates, facts: Mapping[str, Any], recipient: str, unsubscribe: str
) -> None:
    if facts.keys() != ready.facts:
        missing, strange = sorted(ready.facts - facts.keys()), sorted(facts.keys() - ready.facts)
        raise MailInvalid(
            f"mail {kind.name!r} needs exactly {', '.join(sorted(ready.facts))}; "
            f"missing: {', '.join(missing) or 'none'}; not known: {', '.join(strange) or 'none'}"
        )
    if "@" not in recipient or recipient != one_line(recipient) or " " in recipient:
        raise MailInvalid(
            f"recipient {quote_value(recipient)} should be one mail address such as owner@example.com"
        )
    if bool(unsubscribe) != kind.can_unsubscribe:
        must = "needs a way to unsubscribe" if kind.can_unsubscribe else "cannot be unsubscribed"
        raise MailInvalid(f"mail {kind.name!r} {must}; unsubscribe is {unsubscribe!r}")
    if unsubscribe and (
        not unsubscribe.startswith(("https://", "mailto:")) or set(unsubscribe) & set(" \r\n<>")
    ):
        raise MailInvalid(f"unsubscribe {unsubscribe!r} should be an https URL or a mailto:")


def _cut(text: str, characters: int) -> str:
    line = one_line(text).strip()
    return line if len(line) <= characters else line[: characters - 1].rstrip() + "…"


@cache
def _templates(kind: MailType) -> Templates:
    source = assemble(kind.package, kind.name)
    plain, marked = _environment(autoescape=False), _environment(autoescape=True)
    return Templates(
        subject=plain.from_string(source.subject),
        preview=plain.from_string(source.preview),
        text=plain.from_string(source.text),
        html=marked.from_string(source.html),
        facts=frozenset(kind.sample(None, datetime(2026, 1, 1, tzinfo=UTC))),
    )


@cache
def _environment(*, autoescape: bool) -> "Environment":
    from jinja2 import Environment, StrictUndefined, pass_context

    environment = Environment(
        autoescape=autoescape,  # noqa: S701 - off for subject, preview and plain text, which are no HTML
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(FILTERS, moment=pass_context(moment))
    return environment
