"""The documents of bulk operations: the queries that Shopify runs for us, and how to start and watch them.

https://shopify.dev/docs/api/usage/bulk-operations/queries: a query has at most five connections, two levels
deep, written as ``edges { node { id } }``; it has no cost, and its result is a file of JSON lines.
"""

RUN_BULK_QUERY = """\
mutation RunBulkQuery($query: String!) {
  bulkOperationRunQuery(query: $query, groupObjects: true) {
    bulkOperation { id status }
    userErrors { field message }
  }
}
"""
"""With ``groupObjects`` the parts of an object follow it, so that the file is read in one pass."""

READ_BULK_OPERATION = """\
query ReadBulkOperation($id: ID!) {
  bulkOperation(id: $id) { id status errorCode objectCount url }
}
"""

BULK_QUERIES = {
    "products": """\
{
  products {
    edges { node {
      id legacyResourceId title status productType tags updatedAt
      variants { edges { node { id sku title updatedAt inventoryItem { id } } } }
    } }
  }
}
""",
    "inventory_items": """\
{
  inventoryItems {
    edges { node {
      id legacyResourceId sku tracked createdAt updatedAt unitCost { amount currencyCode }
      inventoryLevels { edges { node {
        id updatedAt item { id } location { id } quantities(names: ["available"]) { name quantity }
      } } }
    } }
  }
}
""",
}
"""By list, the same fields as ``LIST_PRODUCTS``, and those of ``LIST_ITEMS`` and ``LIST_LEVELS`` together."""
