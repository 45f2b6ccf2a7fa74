"""A Shopify domain belongs to one shop"""

from alembic import op

from services.core.errors import ShopfleetError

revision = "s0003"
down_revision = "s0002"
branch_labels = None
depends_on = None

_FIND_SHARED = """
select c.shopify_domain, string_agg(s.slug, ', ' order by s.slug) as slugs
  from shop_config c join shops s on s.id = c.shop_id
 where c.shopify_domain <> '' and (c.settings -> 'removed_at') is null
 group by c.shopify_domain having count(*) > 1 order by c.shopify_domain
"""

_CREATE = """
create unique index uq_shop_config_shopify_domain on shop_config (shopify_domain)
 where shopify_domain <> '' and (settings -> 'removed_at') is null
"""


def upgrade() -> None:
    tx = op.get_bind()
    if shared := [f"{row.shopify_domain} ({row.slugs})" for row in tx.exec_driver_sql(_FIND_SHARED)]:
        raise ShopfleetError(
            f"several shops have the same Shopify domain: {'; '.join(shared)}: nothing was migrated. With "
            "the version before, take it from all but one: fleet shops set SHOP --shopify-domain ''"
        )
    tx.exec_driver_sql(_CREATE)


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
