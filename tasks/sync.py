"""Queue ``sync``: what an event only points at is fetched; services that watch and count are told."""

from services.alerts.posthog import PosthogCapture
from services.jobs.sentry_monitors import SentryCheckin
from services.payments.event_fetch import EventFetch
from services.shopify.uninstall import UninstallConfirm
from tasks.runner import work_task

event_fetch = work_task("event_fetch", EventFetch())
uninstall_confirm = work_task("uninstall_confirm", UninstallConfirm())
sentry_checkin = work_task("sentry_checkin", SentryCheckin())
posthog_capture = work_task("posthog_capture", PosthogCapture())
