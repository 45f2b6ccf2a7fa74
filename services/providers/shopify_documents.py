"""Every GraphQL document that we send to Shopify's Admin API. A test compares them with its schemas.

Each costs less than 1,000 points, Shopify's limit per query, for a shop of any size: an object costs 1, a
list the number in ``first``. A list that may be longer has another document that reads its next pages.
"""

_MONEY = "shopMoney { amount currencyCode }"
_BOTH_CURRENCIES = "shopMoney { amount currencyCode } presentmentMoney { amount currencyCode }"
_TAX = f"title rate channelLiable priceSet {{ {_MONEY} }}"
_LINE = f"""
        id sku title quantity currentQuantity taxable isGiftCard requiresShipping
        originalUnitPriceSet {{ {_MONEY} }}
        totalDiscountSet {{ {_MONEY} }}
        discountAllocations {{ allocatedAmountSet {{ {_MONEY} }} }}
        taxLines(first: 4) {{ {_TAX} }}
        product {{ id }}
        variant {{ id }}
        customAttributes {{ key value }}"""
_TRANSACTION = f"""
        id kind status gateway test paymentId receiptJson createdAt processedAt
        amountSet {{ {_BOTH_CURRENCIES} }}
        parentTransaction {{ id }}"""
_REFUND_LINE = f"""
        id quantity restockType
        location {{ id }}
        lineItem {{ id sku variant {{ id }} }}
        subtotalSet {{ {_MONEY} }}
        totalTaxSet {{ {_MONEY} }}"""
_REFUND = f"""
      id legacyResourceId createdAt processedAt
      totalRefundedSet {{ {_MONEY} }}
      duties {{ amountSet {{ {_MONEY} }} }}
      orderAdjustments(first: 5) {{
        nodes {{ id reason amountSet {{ {_MONEY} }} taxAmountSet {{ {_MONEY} }} }}
      }}
      refundLineItems(first: 10) {{ nodes {{ {_REFUND_LINE} }} pageInfo {{ hasNextPage endCursor }} }}
      refundShippingLines(first: 3) {{
        nodes {{ subtotalAmountSet {{ {_MONEY} }} taxAmountSet {{ {_MONEY} }} }}
      }}
      transactions(first: 5) {{ nodes {{ {_TRANSACTION} }} }}"""
_VARIANT = "id sku title updatedAt inventoryItem { id }"

_PAGE_INFO = "pageInfo { hasNextPage endCursor }"
_BY_CHANGE = ", query: $query, sortKey: UPDATED_AT"


def _list(
    name: str, field: str, first: int, nodes: str, arguments: str, variables: str = "$query: String!, "
) -> str:
    """Return the document of a page of the list ``field``."""
    return f"""\
query {name}({variables}$after: String) {{
  {field}(first: {first}, after: $after{arguments}) {{
    nodes {{ {nodes} }}
    {_PAGE_INFO}
  }}
}}
"""


def _read_more(name: str, parent: str, field: str, first: int, nodes: str) -> str:
    """Return the document of a further page of the list ``field`` of one ``parent``."""
    return f"""\
query {name}($id: ID!, $after: String!) {{
  {parent}(id: $id) {{
    id
    {field}(first: {first}, after: $after) {{ nodes {{ {nodes} }} {_PAGE_INFO} }}
  }}
}}
"""


LIST_ORDERS = _list(
    "ListOrders",
    "orders",
    50,
    f"""
      id updatedAt cancelledAt displayFinancialStatus displayFulfillmentStatus currencyCode
      totalPriceSet {{ {_MONEY} }}
      transactions(first: 6) {{ id status }}
      refunds(first: 2) {{ id totalRefundedSet {{ {_MONEY} }} }}
      fulfillments(first: 3) {{ id status displayStatus updatedAt }}""",
    _BY_CHANGE,
)
"""Only the fields that show a missing or old order: most orders of a page are recorded already."""

LIST_FULFILLMENT_ORDERS = _list(
    "ListFulfillmentOrders",
    "fulfillmentOrders",
    100,
    """
      id orderId status requestStatus fulfillAt updatedAt
      assignedLocation { location { id } }
      fulfillmentHolds { id reason }""",
    f"{_BY_CHANGE}, includeClosed: true",
)
"""Separate from the orders, which an app without the scope for these may still read."""

_RETURN = "id name status decline { reason }"
_RETURNS = f"returns(first: 5) {{ nodes {{ {_RETURN} }} {_PAGE_INFO} }}"

LIST_RETURNS = _list("ListReturns", "orders", 50, f"id updatedAt {_RETURNS}", _BY_CHANGE)
"""Separate from the orders, because returns have their own scope."""

READ_ORDER_RETURNS = _read_more("ReadOrderReturns", "order", "returns", 50, _RETURN)

READ_ORDER = f"""\
query ReadOrder($id: ID!) {{
  order(id: $id) {{
    id legacyResourceId name createdAt updatedAt cancelledAt displayFinancialStatus displayFulfillmentStatus
    currencyCode presentmentCurrencyCode taxesIncluded dutiesIncluded processedAt test taxExempt
    retailLocation {{ id }}
    totalPriceSet {{ {_MONEY} }}
    subtotalPriceSet {{ {_MONEY} }}
    totalTaxSet {{ {_MONEY} }}
    totalShippingPriceSet {{ {_MONEY} }}
    totalDiscountsSet {{ {_MONEY} }}
    totalTipReceivedSet {{ {_MONEY} }}
    originalTotalDutiesSet {{ {_MONEY} }}
    currentTotalDutiesSet {{ {_MONEY} }}
    originalTotalAdditionalFeesSet {{ {_MONEY} }}
    currentTotalAdditionalFeesSet {{ {_MONEY} }}
    totalCashRoundingAdjustment {{ paymentSet {{ {_MONEY} }} refundSet {{ {_MONEY} }} }}
    taxLines {{ {_TAX} }}
    customer {{ id legacyResourceId firstName lastName updatedAt taxExempt
      defaultEmailAddress {{ emailAddress }} defaultPhoneNumber {{ phoneNumber }} }}
    shippingAddress {{ provinceCode province countryCodeV2 country }}
    billingAddress {{ provinceCode province countryCodeV2 country }}
    customAttributes {{ key value }}
    lineItems(first: 15) {{ nodes {{ {_LINE} }} pageInfo {{ hasNextPage endCursor }} }}
    shippingLines(first: 3, includeRemovals: true) {{
      nodes {{
        id title isRemoved
        originalPriceSet {{ {_MONEY} }}
        discountedPriceSet {{ {_MONEY} }}
        taxLines {{ {_TAX} }}
      }}
    }}
    transactions(first: 30) {{ {_TRANSACTION} }}
    fulfillments(first: 20) {{
      id status displayStatus createdAt updatedAt totalQuantity
      location {{ id }}
    }}
    refunds(first: 40) {{ id totalRefundedSet {{ {_MONEY} }} }}
  }}
}}
"""

READ_ORDER_LINES = _read_more("ReadOrderLines", "order", "lineItems", 30, _LINE)

READ_REFUND = f"query ReadRefund($id: ID!) {{ refund(id: $id) {{ {_REFUND} }} }}"

READ_REFUND_LINES = _read_more("ReadRefundLines", "refund", "refundLineItems", 100, _REFUND_LINE)

LIST_PRODUCTS = _list(
    "ListProducts",
    "products",
    25,
    f"""
      id legacyResourceId title status productType tags updatedAt
      variants(first: 15) {{ nodes {{ {_VARIANT} }} {_PAGE_INFO} }}""",
    _BY_CHANGE,
)

READ_PRODUCT_VARIANTS = _read_more("ReadProductVariants", "product", "variants", 250, _VARIANT)

_ITEM = "id legacyResourceId sku tracked createdAt updatedAt unitCost { amount currencyCode }"
LIST_ITEMS = _list("ListItems", "inventoryItems", 100, _ITEM, ", query: $query")

_LOCATION = "id legacyResourceId name isActive createdAt updatedAt address { provinceCode countryCode }"
LIST_LOCATIONS = _list("ListLocations", "locations", 50, _LOCATION, ", includeInactive: true", "")

LIST_LEVELS = """\
query ListLevels($location: ID!, $query: String!, $after: String) {
  location(id: $location) {
    id
    inventoryLevels(first: 100, after: $after, query: $query) {
      nodes { id updatedAt item { id } quantities(names: ["available"]) { name quantity } }
      pageInfo { hasNextPage endCursor }
    }
  }
}
"""

_SUBSCRIPTION = "id topic uri format createdAt updatedAt"
LIST_SUBSCRIPTIONS = _list("ListSubscriptions", "webhookSubscriptions", 100, _SUBSCRIPTION, "", "")

CREATE_SUBSCRIPTION = """\
mutation CreateSubscription($topic: WebhookSubscriptionTopic!, $wanted: WebhookSubscriptionInput!) {
  webhookSubscriptionCreate(topic: $topic, webhookSubscription: $wanted) {
    webhookSubscription { id topic uri format }
    userErrors { field message }
  }
}
"""

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
"""Reads by item and location: the format of an InventoryLevel's id is not documented."""

READ_ACCESS = """\
query ReadAccess {
  shop { id myshopifyDomain currencyCode ianaTimezone }
  currentAppInstallation { id accessScopes { handle } }
}
"""

COUNT_CATALOGUE = """\
query CountCatalogue {
  productsCount(limit: null) { count }
  productVariantsCount(limit: null) { count }
}
"""
"""Without ``limit: null`` Shopify counts to 10,000."""

DELETE_SUBSCRIPTION = """\
mutation DeleteSubscription($id: ID!) {
  webhookSubscriptionDelete(id: $id) {
    deletedWebhookSubscriptionId
    userErrors { field message }
  }
}
"""

READ_SHOP = "query ReadShop { shop { id myshopifyDomain } }"
"""The smallest query that needs a token: after an uninstall its response is 401."""


# Bulk operations: https://shopify.dev/docs/api/usage/bulk-operations/queries: a query has at most five
# connections, two levels deep, written as ``edges { node { id } }``; it has no cost, and its result is a file
# of JSON lines.
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
