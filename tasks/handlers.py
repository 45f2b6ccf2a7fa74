"""The handler of every topic. Queues and limits are in ``services.ledger.topics``."""

from collections.abc import Mapping, Sequence

from services.alerts.channels import AlertSendHandler
from services.alerts.posthog import PosthogCaptureHandler
from services.bulk.handler import run_bulk_actions
from services.closing.daily import check_day
from services.closing.digest import record_owner_digest
from services.closing.gap_backfill import backfill_gaps
from services.closing.letter_job import draft_owner_letter, send_letters
from services.closing.month_close import close_month
from services.conversations.ai_steps import EmbedHandler, SummarizeHandler, plan_ai_work
from services.conversations.backfill_job import backfill_nightly
from services.conversations.cache_refresh import refresh_hourly
from services.conversations.contacts import ingest_contacts
from services.conversations.drift import heal_drift
from services.conversations.fetch_step import InteractionFetchHandler
from services.conversations.find_step import NotionFindHandler
from services.conversations.handler import ingest_interactions
from services.conversations.mails import ingest_mails
from services.conversations.note_steps import note_pages
from services.conversations.write_step import NotionWriteHandler
from services.costs.sms_usage import read_sms_costs
from services.jobs.audit_jobs import anchor_heads, archive_events, verify_chains
from services.jobs.handler import JobHandler
from services.jobs.read_bounces import read_bounces
from services.jobs.sentry_monitors import SentryCheckinHandler
from services.ledger.replay import review_events
from services.ledger.work import ExternalHandler, Handler, TransactionalHandler
from services.mail.events import ingest_mail_events
from services.mail.send import MailSendHandler
from services.outreach.consents import withdraw_reported
from services.outreach.handler import compose_segments
from services.outreach.job import start_series
from services.payments.event_fetch import EventFetchHandler
from services.payments.handler import ingest_transactions
from services.privacy.customer_redaction import PrivacyRedactHandler
from services.privacy.export import PrivacyExportHandler
from services.retention.job import delete_old
from services.shopfloor.handler import sync_stages
from services.shopify.logistics.fulfillment_orders import ingest_fulfillment_orders
from services.shopify.logistics.fulfillments import (
    ingest_fulfillment_events,
    ingest_fulfillments,
    ingest_locations,
)
from services.shopify.logistics.partial_entities import (
    ingest_inventory_shipments,
    ingest_inventory_transfers,
    ingest_returns,
    ingest_reverse_fulfillment_orders,
)
from services.shopify.orders.customers import ingest_customers
from services.shopify.orders.handler import ingest_orders
from services.shopify.orders.notices import ingest_order_notices
from services.shopify.orders.refund_handler import ingest_refunds
from services.shopify.orders.transactions import (
    ingest_order_transactions,
    ingest_shopify_disputes,
    ingest_tender_transactions,
)
from services.shopify.products.handler import ingest_products
from services.shopify.products.inventory_items import ingest_inventory_items, ingest_variant_stock
from services.shopify.shop_profile import ingest_storefronts
from services.shopify.stock.handler import ingest_inventory_levels
from services.shopify.stock.push import InventoryPushHandler
from services.shopify.subscriptions.check import check_subscriptions
from services.shopify.uninstall import UninstallConfirmHandler
from services.timesheets.handler import ReportSendHandler
from services.timesheets.job import run_due_reports

TRANSACTIONAL: Mapping[str, TransactionalHandler] = {
    "order_ingest": ingest_orders,
    "order_transaction_ingest": ingest_order_transactions,
    "fulfillment_ingest": ingest_fulfillments,
    "fulfillment_order_ingest": ingest_fulfillment_orders,
    "fulfillment_event_ingest": ingest_fulfillment_events,
    "return_ingest": ingest_returns,
    "reverse_fulfillment_order_ingest": ingest_reverse_fulfillment_orders,
    "order_notice_ingest": ingest_order_notices,
    "tender_transaction_ingest": ingest_tender_transactions,
    "shopify_dispute_ingest": ingest_shopify_disputes,
    "variant_stock_ingest": ingest_variant_stock,
    "inventory_transfer_ingest": ingest_inventory_transfers,
    "inventory_shipment_ingest": ingest_inventory_shipments,
    "customer_ingest": ingest_customers,
    "storefront_ingest": ingest_storefronts,
    "refund_ingest": ingest_refunds,
    "product_ingest": ingest_products,
    "inventory_level_ingest": ingest_inventory_levels,
    "inventory_item_ingest": ingest_inventory_items,
    "location_ingest": ingest_locations,
    "transaction_ingest": ingest_transactions,
    "interaction_ingest": ingest_interactions,
    "contact_ingest": ingest_contacts,
    "mail_ingest": ingest_mails,
    "interaction_enrich": plan_ai_work,
    "interaction_note": note_pages,
    "mail_event": ingest_mail_events,
    "consent_withdraw": withdraw_reported,
    "event_review": review_events,
    "bulk_action": run_bulk_actions,
    "letter_send": send_letters,
    "outreach_compose": compose_segments,
    "stage_sync": sync_stages,
}
EXTERNAL: Mapping[str, ExternalHandler] = {
    "inventory_push": InventoryPushHandler(),
    "reconcile": JobHandler(check_day),
    "gap_heal": JobHandler(backfill_gaps),
    "subscription_watch": JobHandler(check_subscriptions),
    "mail_send": MailSendHandler(),
    "event_fetch": EventFetchHandler(),
    "uninstall_confirm": UninstallConfirmHandler(),
    "notion_find": NotionFindHandler(),
    "interaction_summarize": SummarizeHandler(),
    "interaction_embed": EmbedHandler(),
    "interaction_fetch": InteractionFetchHandler(),
    "notion_write": NotionWriteHandler(),
    "sentry_checkin": SentryCheckinHandler(),
    "posthog_capture": PosthogCaptureHandler(),
    "alert_send": AlertSendHandler(),
    "owner_digest": JobHandler(record_owner_digest),
    "owner_letter": JobHandler(draft_owner_letter),
    "month_close": JobHandler(close_month),
    "sms_cost_read": JobHandler(read_sms_costs),
    "conversation_backfill": JobHandler(backfill_nightly),
    "canvas_refresh": JobHandler(refresh_hourly),
    "notion_drift": JobHandler(heal_drift),
    "audit_verify": JobHandler(verify_chains),
    "audit_anchor": JobHandler(anchor_heads),
    "audit_archive": JobHandler(archive_events),
    "retention": JobHandler(delete_old),
    "due_reports": JobHandler(run_due_reports),
    "bounce_read": JobHandler(read_bounces),
    "report_send": ReportSendHandler(),
    "outreach": JobHandler(start_series),
    "privacy_export": PrivacyExportHandler(),
    "privacy_redact": PrivacyRedactHandler(),
}
CONTINUED: Mapping[str, Sequence[str]] = {"outreach": ("outreach_compose", "mail_send")}
"""By topic of a job whose runs end with other work: the topics of that work."""
HANDLERS: Mapping[str, Handler] = {**TRANSACTIONAL, **EXTERNAL}
