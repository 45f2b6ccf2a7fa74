"""Does Shopify still send what it should: looked at, made anew, and its outage read."""
