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

READ_LEVEL = """\
query ReadLevel($item: ID!, $location: ID!) {
  inventoryItem(id: $item) {
    id
    inventoryLevel(locationId: $location) {
      id
      updatedAt
      quantities(names: ["available"]) { name quantity updatedAt }
    }
  }
}
"""
