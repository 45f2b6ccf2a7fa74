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
      refundLineItems(first: 10) {{
        nodes {{ {_REFUND_LINE} }}
        pageInfo {{ hasNextPage endCursor }}
      }}
      refundShippingLines(first: 3) {{
        nodes {{ subtotalAmountSet {{ {_MONEY} }} taxAmountSet {{ {_MONEY} }} }}
      }}
      transactions(first: 5) {{ nodes {{ {_TRANSACTION} }} }}"""
_VARIANT = "id sku title updatedAt inventoryItem { id }"

LIST_ORDERS = f"""\
query ListOrders($query: String!, $after: String) {{
  orders(first: 50, after: $after, query: $query, sortKey: UPDATED_AT) {{
    nodes {{
      id updatedAt cancelledAt displayFinancialStatus displayFulfillmentStatus currencyCode
      totalPriceSet {{ {_MONEY} }}
      transactions(first: 6) {{ id status }}
      refunds(first: 2) {{ id totalRefundedSet {{ {_MONEY} }} }}
      fulfillments(first: 3) {{ id status displayStatus updatedAt }}
    }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}
"""
"""Only the fields that show a missing or old order: most orders of a page are recorded already."""

LIST_FULFILLMENT_ORDERS = """\
query ListFulfillmentOrders($query: String!, $after: String) {
  fulfillmentOrders(first: 100, after: $after, query: $query, sortKey: UPDATED_AT, includeClosed: true) {
    nodes {
      id orderId status requestStatus fulfillAt updatedAt
      assignedLocation { location { id } }
      fulfillmentHolds { id reason }
    }
    pageInfo { hasNextPage endCursor }
  }
}
"""
"""Separate from the orders, which an app without the scope for these may still read."""

_RETURN = "id name status decline { reason }"

LIST_RETURNS = f"""\
query ListReturns($query: String!, $after: String) {{
  orders(first: 50, after: $after, query: $query, sortKey: UPDATED_AT) {{
    nodes {{
      id updatedAt
      returns(first: 5) {{ nodes {{ {_RETURN} }} pageInfo {{ hasNextPage endCursor }} }}
    }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}
"""
"""Separate from the orders, because returns have their own scope."""

READ_ORDER_RETURNS = f"""\
query ReadOrderReturns($id: ID!, $after: String!) {{
  order(id: $id) {{
    id
    returns(first: 50, after: $after) {{ nodes {{ {_RETURN} }} pageInfo {{ hasNextPage endCursor }} }}
  }}
}}
"""

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

READ_ORDER_LINES = f"""\
query ReadOrderLines($id: ID!, $after: String!) {{
  order(id: $id) {{
    id
    lineItems(first: 30, after: $after) {{ nodes {{ {_LINE} }} pageInfo {{ hasNextPage endCursor }} }}
  }}
}}
"""

READ_REFUND = f"""\
query ReadRefund($id: ID!) {{
  refund(id: $id) {{ {_REFUND} }}
}}
"""

READ_REFUND_LINES = f"""\
query ReadRefundLines($id: ID!, $after: String!) {{
  refund(id: $id) {{
    id
    refundLineItems(first: 100, after: $after) {{
      nodes {{ {_REFUND_LINE} }}
      pageInfo {{ hasNextPage endCursor }}
    }}
  }}
}}
"""

LIST_PRODUCTS = f"""\
query ListProducts($query: String!, $after: String) {{
  products(first: 25, after: $after, query: $query, sortKey: UPDATED_AT) {{
    nodes {{
      id legacyResourceId title status productType tags updatedAt
      variants(first: 15) {{ nodes {{ {_VARIANT} }} pageInfo {{ hasNextPage endCursor }} }}
    }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}
"""

READ_PRODUCT_VARIANTS = f"""\
query ReadProductVariants($id: ID!, $after: String!) {{
  product(id: $id) {{
    id
    variants(first: 250, after: $after) {{ nodes {{ {_VARIANT} }} pageInfo {{ hasNextPage endCursor }} }}
  }}
}}
"""

LIST_ITEMS = """\
query ListItems($query: String!, $after: String) {
  inventoryItems(first: 100, after: $after, query: $query) {
    nodes { id legacyResourceId sku tracked createdAt updatedAt unitCost { amount currencyCode } }
    pageInfo { hasNextPage endCursor }
  }
}
"""

LIST_LOCATIONS = """\
query ListLocations($after: String) {
  locations(first: 50, after: $after, includeInactive: true) {
    nodes { id legacyResourceId name isActive createdAt updatedAt address { provinceCode countryCode } }
    pageInfo { hasNextPage endCursor }
  }
}
"""

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

LIST_SUBSCRIPTIONS = """\
query ListSubscriptions($after: String) {
  webhookSubscriptions(first: 100, after: $after) {
    nodes { id topic uri format createdAt updatedAt }
    pageInfo { hasNextPage endCursor }
  }
}
"""

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
