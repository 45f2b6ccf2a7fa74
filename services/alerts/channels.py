"""The channels that carry alerts: one row for each, and the topic ``alert_send``, which sends to one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection

from services.core.errors import WorkError
from services.core.settings import Settings, get_settings
from services.ledger.work import Done, Outcome, PreparedCall, WorkItem

Message = Mapping[str, Any]
"""See ``services.alerts.notify.make_message``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """Where messages go. ``get_address`` returns an empty text while the channel is not set up."""

    name: str
    get_address: Callable[[Settings], str]
    format: Callable[[Message], Mapping[str, Any]]
    """Returns the JSON document of a message."""

    def is_set(self, settings: Settings) -> bool:
        """Return whether the channel is set up."""
        return bool(self.get_address(settings))


def format_slack(message: Message) -> dict[str, Any]:
    """Return a Slack message with mrkdwn. Source: docs.slack.dev/messaging/formatting-message-text."""
    head = f"*{message['severity']} {message['change']}*: {_escape(message['about'])} (`{message['rule']}`)"
    if message["count"] > 1:
        head += f", {message['count']} incidents"
    lines = [f"• {_escape(_describe(one))}" for one in message["incidents"]]
    if more := message["count"] - len(message["incidents"]):
        lines.append(f"• and {more} more: `fleet incidents list --rule {message['rule']}`")
    if message["action"]:
        lines.append(f"Do: {_escape(message['action'])}")
    first = message["incidents"][0]["id"]
    return {"text": "\n".join([head, *lines, f"`fleet incidents show {first}`"])}


def _describe(incident: Mapping[str, Any]) -> str:
    by = incident["resolved_by"]
    how = f" (resolved by {by}: {incident['resolved_reason']})" if by else ""
    return f"{incident['shop']}: {incident['summary']}{how}"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


CHANNELS: Mapping[str, Channel] = {
    channel.name: channel
    for channel in (
        Channel(name="slack", get_address=lambda each: each.slack_webhook_url, format=format_slack),
        Channel(name="alert_webhook", get_address=lambda each: each.alert_webhook_url, format=dict),
    )
}


class AlertSendHandler:
    """The handler of ``alert_send``: posts a message to its channel.

    If a worker dies between the post and the result, the message is posted again with the same ``id``.
    """

    def prepare(
        self,
        tx: Connection,  # noqa: ARG002 - the arguments of every handler
        items: Sequence[WorkItem],
        now: datetime,  # noqa: ARG002
    ) -> Sequence[PreparedCall | Outcome]:
        """Return a call per item, or ``disabled`` if its channel is not set up any more."""
        settings = get_settings()
        return [self._plan_call(item, settings) for item in items]

    def _plan_call(self, item: WorkItem, settings: Settings) -> PreparedCall | Outcome:
        channel = CHANNELS[item.payload["channel"]]
        if not channel.is_set(settings):
            return Done("disabled")
        return PreparedCall(item=item, act=partial(_send, channel, settings, item.payload["message"]))


def _send(channel: Channel, settings: Settings, message: Message) -> Outcome:
    # Imported here: every worker loads this module, and few call a channel.
    from services.providers.alert_webhooks import post_alert

    try:
        post_alert(
            channel.name,
            channel.get_address(settings),
            channel.format(message),
            allow_private=settings.allow_private_urls,
        )
    except WorkError as fault:
        return fault
    return Done("sent")
