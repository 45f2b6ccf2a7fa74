"""What Shopify lists and no webhook told is read and enters by the same door."""
