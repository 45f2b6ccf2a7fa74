"""Every GraphQL document that we send to Shopify's Admin API. A test holds them against its schemas."""

SET_AVAILABLE = """\
mutation SetAvailable($input: InventorySetQuantitiesInput!, $key: String!) {
  inventorySetQuantities(input: $input) @idempotent(key: $key) {
    inventoryAdjustmentGroup { id createdAt }
    userErrors { code field message }
  }
}
"""
"""``@idempotent`` and ``changeFromQuantity`` are required from API 2026-04 on."""

READ_LEVELS = """\
query ReadLevels($items: [ID!]!, $location: ID!) {
  nodes(ids: $items) {
    ... on InventoryItem {
      id
      inventoryLevel(locationId: $location) {
        id
        updatedAt
        quantities(names: ["available", "on_hand"]) { name quantity }
      }
    }
  }
}
"""
"""Asks by item and location: the number in an InventoryLevel's own id is Shopify's affair."""

READ_SHOP = "query ReadShop { shop { id myshopifyDomain } }"
"""The smallest query that needs a token: after an uninstall Shopify answers it with 401."""
