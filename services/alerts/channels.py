"""The channels that carry alerts: one row for each, and the topic ``alert_send``, which sends to one."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from services.alerts.channel_figures import CHANNEL_FAILED, record_sent
from services.alerts.decide import Change
from services.alerts.incident_mails import ORIGIN, plan_mails
from services.alerts.messages import (
    Message,
    Notice,
    format_sentry,
    format_slack,
    make_message,
    make_test_notice,
)
from services.core.clock import utc_now
from services.core.errors import WorkError
from services.core.settings import Settings, get_settings
from services.ledger.work import FLEET, Done, FollowUp, NewWork, Outcome, PreparedCall, WorkItem

TOPIC = "alert_send"
DISABLED, MAILED = "disabled", "mailed"
"""Results: the channel is not set up in the settings of the worker; a mail was stored, which others send."""
ALL = ("P1", "P2", "P3")

OPEN_CHANGES = (Change.OPENED, Change.WORSENED, Change.REPEATED, Change.REMINDED, Change.ESCALATED)

# ``case``, so that the later messages are read only if no incident is open.
_FIND_OVERTAKEN = """
select o.id from work_queue o
 where o.id = any(%(ids)s) and case
   when exists (select from incidents i
                 where o.payload -> 'incidents' @> to_jsonb(i.id) and i.status = 'open') then false
   else o.payload -> 'incidents' <@ (
     select jsonb_agg(e.id)
       from work_queue r, jsonb_array_elements(r.payload -> 'incidents') as e(id)
      where r.id > o.id and r.topic = 'alert_send' and r.status = 'done' and r.result = 'sent'
        and r.payload ->> 'channel' = o.payload ->> 'channel'
        and r.payload -> 'message' ->> 'change' = 'recovered') end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """Where messages go. ``setting`` is the setting with its address; it is empty if nobody set it up."""

    name: str
    setting: str
    plan: Callable[[Connection, Sequence[Notice], datetime], list[NewWork]]
    """Returns the work that sends incidents of one rule and change."""
    send: Callable[[Settings, Message], object] | None = None
    """Sends a message of ``alert_send``; raises ``WorkError``."""
    severities: Collection[str] = ALL
    changes: Collection[str] = tuple(each for each in Change if each is not Change.TEST)

    def is_set(self, settings: Settings) -> bool:
        """Return whether the channel is set up."""
        return bool(getattr(settings, self.setting.lower()))

    def takes(self, notice: Notice) -> bool:
        """Return whether the channel gets ``notice``. It gets none about its own failure."""
        is_own = notice.rule == f"{CHANNEL_FAILED}:{self.name}"
        return notice.severity in self.severities and notice.change in self.changes and not is_own


def _plan_post(
    name: str,
    tx: Connection,  # noqa: ARG001 - the arguments of every plan
    rows: Sequence[Notice],
    now: datetime,
) -> list[NewWork]:
    message = make_message(rows, now)
    payload = {"channel": name, "message": message, "incidents": [row.id for row in rows]}
    key = f"{name}:{message['id']}"
    return [NewWork(shop_id=FLEET, topic=TOPIC, key=key, payload=payload, origin=ORIGIN)]


def _plan_events(tx: Connection, rows: Sequence[Notice], now: datetime) -> list[NewWork]:
    return [work for row in rows for work in _plan_post("sentry", tx, [row], now)]


# Imported in each function: every worker loads this module, and few call a channel.
def _send_slack(settings: Settings, message: Message) -> None:
    from services.providers.alert_webhooks import post_alert

    document = format_slack(message, settings.zone)
    post_alert("slack", settings.slack_webhook_url, document, allow_private=settings.allow_private_urls)


def _send_webhook(settings: Settings, message: Message) -> None:
    from services.providers.alert_webhooks import post_alert

    url, allow_private = settings.alert_webhook_url, settings.allow_private_urls
    post_alert("alert_webhook", url, message, allow_private=allow_private)


def _send_sentry(settings: Settings, message: Message) -> None:
    from services.providers.http import get_http_client
    from services.providers.sentry_envelopes import send_event

    send_event(get_http_client(), settings.sentry_dsn, format_sentry(message, settings.environment))


CHANNELS: Mapping[str, Channel] = {
    channel.name: channel
    for channel in (
        Channel(
            name="slack",
            setting="SLACK_WEBHOOK_URL",
            plan=partial(_plan_post, "slack"),
            send=_send_slack,
        ),
        Channel(
            name="alert_webhook",
            setting="ALERT_WEBHOOK_URL",
            plan=partial(_plan_post, "alert_webhook"),
            send=_send_webhook,
        ),
        Channel(
            name="mail",
            setting="OPERATOR_EMAIL",
            plan=plan_mails,
            severities=("P1", "P2"),
            changes=(Change.OPENED, Change.WORSENED, Change.ESCALATED, Change.RECOVERED),
        ),
        # Sentry groups the events of one shop and rule, and has no event for an end.
        Channel(
            name="sentry",
            setting="SENTRY_DSN",
            plan=_plan_events,
            send=_send_sentry,
            changes=(Change.OPENED,),
        ),
    )
}
"""Which changes of which severities go where; ``docs/alerts.md`` has this table."""


def list_channels() -> list[Channel]:
    """Return the channels that are set up."""
    settings = get_settings()
    return [channel for channel in CHANNELS.values() if channel.is_set(settings)]


def plan_tests(names: Collection[str], by: str, request_id: str, now: datetime) -> dict[str, NewWork]:
    """Return the work that tests each of the channels ``names``, also if it is not set up here.

    The settings of the worker decide which channels are set up, and where each message goes.
    """
    message = make_message([make_test_notice(by, now)], now)
    return {
        name: NewWork(
            shop_id=FLEET,
            topic=TOPIC,
            key=f"{name}:{message['id']}",
            payload={"channel": name, "message": message, "incidents": []},
            origin=ORIGIN,
            request_id=request_id,
        )
        for name in names
    }


class AlertSendHandler:
    """The handler of ``alert_send``: sends a message to its channel.

    If a worker dies between the call and the result, the message is sent again with the same ``id``.
    """

    def prepare(
        self,
        tx: Connection,
        items: Sequence[WorkItem],
        now: datetime,  # noqa: ARG002 - the arguments of every handler
    ) -> Sequence[PreparedCall | Outcome]:
        """Return a call per item, or ``disabled`` if its channel is not set up here.

        The test of the channel ``mail`` stores a mail, with the request id of its item. A message that was
        retried until its incidents ended, and their ends were sent, is ``overtaken``.
        """
        settings = get_settings()
        ids = [item.id for item in items if item.payload["message"]["change"] in OPEN_CHANGES]
        overtaken = {*tx.exec_driver_sql(_FIND_OVERTAKEN, {"ids": ids}).scalars()} if ids else set()
        return [
            Done("overtaken") if item.id in overtaken else self._plan_call(item, settings) for item in items
        ]

    def _plan_call(self, item: WorkItem, settings: Settings) -> PreparedCall | Outcome:
        channel = CHANNELS[item.payload["channel"]]
        if not channel.is_set(settings):
            return Done(DISABLED)
        if channel.send is None:
            return Done(MAILED, record=partial(_mail_test, item.payload["message"]["by"], item.request_id))
        send = partial(channel.send, settings, item.payload["message"])
        return PreparedCall(item=item, act=partial(_send, send, channel.name))


def _send(send: Callable[[], object], channel: str) -> Outcome:
    try:
        send()
    except WorkError as fault:
        return fault
    return Done("sent", record=partial(_record_sent, channel))


def _mail_test(by: str, request_id: str, tx: Connection) -> FollowUp:
    now = utc_now()
    work = plan_mails(tx, [make_test_notice(by, now)], now)
    return FollowUp([replace(one, request_id=request_id) for one in work])


def _record_sent(channel: str, tx: Connection) -> FollowUp:
    record_sent(tx, channel)
    return FollowUp()
