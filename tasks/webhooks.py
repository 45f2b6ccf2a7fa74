"""Queue ``webhooks``: what a provider told us becomes rows of our own."""

from services.conversations.handler import ingest_interactions
from services.ledger.replay import review_events
from services.payments.handler import ingest_transactions
from services.shopify.logistics.fulfillment_orders import ingest_fulfillment_orders
from services.shopify.logistics.fulfillments import (
    ingest_fulfillment_events,
    ingest_fulfillments,
    ingest_locations,
)
from services.shopify.logistics.inventory_transfers import (
    ingest_inventory_shipments,
    ingest_inventory_transfers,
)
from services.shopify.logistics.returns import ingest_returns, ingest_reverse_fulfillment_orders
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
from tasks.runner import work_task

order_ingest = work_task("order_ingest", ingest_orders)
order_transaction_ingest = work_task("order_transaction_ingest", ingest_order_transactions)
fulfillment_ingest = work_task("fulfillment_ingest", ingest_fulfillments)
fulfillment_order_ingest = work_task("fulfillment_order_ingest", ingest_fulfillment_orders)
fulfillment_event_ingest = work_task("fulfillment_event_ingest", ingest_fulfillment_events)
return_ingest = work_task("return_ingest", ingest_returns)
reverse_fulfillment_order_ingest = work_task(
    "reverse_fulfillment_order_ingest", ingest_reverse_fulfillment_orders
)
order_notice_ingest = work_task("order_notice_ingest", ingest_order_notices)
tender_transaction_ingest = work_task("tender_transaction_ingest", ingest_tender_transactions)
shopify_dispute_ingest = work_task("shopify_dispute_ingest", ingest_shopify_disputes)
variant_stock_ingest = work_task("variant_stock_ingest", ingest_variant_stock)
inventory_transfer_ingest = work_task("inventory_transfer_ingest", ingest_inventory_transfers)
inventory_shipment_ingest = work_task("inventory_shipment_ingest", ingest_inventory_shipments)
customer_ingest = work_task("customer_ingest", ingest_customers)
storefront_ingest = work_task("storefront_ingest", ingest_storefronts)
refund_ingest = work_task("refund_ingest", ingest_refunds)
product_ingest = work_task("product_ingest", ingest_products)
inventory_level_ingest = work_task("inventory_level_ingest", ingest_inventory_levels)
inventory_item_ingest = work_task("inventory_item_ingest", ingest_inventory_items)
location_ingest = work_task("location_ingest", ingest_locations)
transaction_ingest = work_task("transaction_ingest", ingest_transactions)
interaction_ingest = work_task("interaction_ingest", ingest_interactions)
event_review = work_task("event_review", review_events)
