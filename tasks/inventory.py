"""Queue ``inventory``: stock goes out to Shopify."""

from services.shopify.stock.push import InventoryPush
from tasks.runner import work_task

inventory_push = work_task("inventory_push", InventoryPush())
