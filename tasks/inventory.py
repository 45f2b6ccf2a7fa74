"""Queue ``inventory``: stock goes out to Shopify."""

from services.storefront.push import InventoryPush
from tasks.runner import work_task

inventory_push = work_task("inventory_push", InventoryPush())
