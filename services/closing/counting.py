"""SQL conditions for what counts as a sale or a refund, where it is taxed, and whether it is paid.

The month's statement, its tax files and the owner's digest all use these conditions.
``o`` is ``orders``, ``l`` is ``order_lines``, ``r`` is ``order_refunds``. Parameters: ``home``, ``exempt``.
"""

COUNTS = """
 o.deleted_at is null and not o.is_test and o.financial_status not in ('voided', 'expired')
 and not (o.cancelled_at is not null and o.financial_status in ('pending', 'authorized', 'unpaid', ''))
"""
"""An order counts from the day on which it was placed, as its invoice does.

It does not count where it is a test, was deleted, its payment was voided or expired, or it was cancelled
before anything was paid.
"""

REFUND_COUNTS = f"r.status = 'success' and {COUNTS}"
"""A refund counts once its money is given back; a pending or failed one is not booked."""

IS_PAID = "o.financial_status in ('paid', 'partially_refunded', 'refunded')"
"""Whether the whole order was paid. Net sales have both; the digest's revenue is what is paid."""

PIECES_REMOVED = """
 greatest(0, l.quantity - coalesce(l.current_quantity, l.quantity) - l.refunded_quantity)
"""
"""Pieces of a line that an edit removed and no refund names: these were never sold."""

PLACE = """
 coalesce(nullif(o.province, ''),
          (select nullif(w.province, '') from locations w
            where w.shop_id = o.shop_id and w.location_id = o.location_id), %(home)s)
"""
"""Where an order is taxed: where it goes; what is handed over, where the counter or the pickup is."""

IS_PST_EXEMPT = """
 (%(exempt)s::text <> '{}' and ('sku:' || lower(l.sku) = any(%(exempt)s::text[]) or exists (
   select from products p
    where p.shop_id = l.shop_id and p.product_id = l.product_id
      and ('type:' || lower(p.product_type) = any(%(exempt)s::text[])
           or exists (select from unnest(string_to_array(lower(p.tags), ',')) t
                       where 'tag:' || btrim(t) = any(%(exempt)s::text[]))))))
"""
"""Whether the tax profile names the goods, by product type, tag or SKU, as exempt from provincial tax."""
