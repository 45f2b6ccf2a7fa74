"""Queue ``webhooks``: what a provider told us becomes rows of our own."""

from services.books.transactions import ingest_transactions
from services.conversations.interactions import ingest_interactions
from services.ledger.review import review_events
from services.storefront.orders import ingest_orders
from services.storefront.products import ingest_products
from services.storefront.refunds import ingest_refunds
from services.storefront.stock import ingest_inventory_levels
from tasks.runner import work_task

order_ingest = work_task("order_ingest", ingest_orders)
refund_ingest = work_task("refund_ingest", ingest_refunds)
product_ingest = work_task("product_ingest", ingest_products)
inventory_level_ingest = work_task("inventory_level_ingest", ingest_inventory_levels)
transaction_ingest = work_task("transaction_ingest", ingest_transactions)
interaction_ingest = work_task("interaction_ingest", ingest_interactions)
event_review = work_task("event_review", review_events)
