"""Queue ``sync``: services that watch and count are told."""

from services.alerts.posthog import PosthogCapture
from services.jobs.checkins import SentryCheckin
from tasks.runner import work_task

sentry_checkin = work_task("sentry_checkin", SentryCheckin())
posthog_capture = work_task("posthog_capture", PosthogCapture())
