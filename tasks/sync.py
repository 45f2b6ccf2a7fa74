"""Queue ``sync``: what providers have and we lack is brought in; services that watch and count are told."""

from services.alerts.posthog import PosthogCapture
from services.books.event_fetch import EventFetch
from services.closing.gap_healing import GapHealing
from services.jobs.checkins import SentryCheckin
from services.jobs.effect import JobEffect
from services.storefront.subscriptions.watch import SubscriptionWatch
from tasks.runner import work_task

event_fetch = work_task("event_fetch", EventFetch())
gap_heal = work_task("gap_heal", JobEffect(GapHealing()))
subscription_watch = work_task("subscription_watch", JobEffect(SubscriptionWatch()))
sentry_checkin = work_task("sentry_checkin", SentryCheckin())
posthog_capture = work_task("posthog_capture", PosthogCapture())
