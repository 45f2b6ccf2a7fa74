"""What Shopify tells beside orders and stock: parcels, returns, transfers, disputes, notices."""
