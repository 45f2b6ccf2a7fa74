"""Act: orders, stock and the push of stock to Shopify."""
