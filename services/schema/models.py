"""Every table of the project, so that ``metadata`` is whole when migrations are compared with it."""

from services.alerts import tables as alerts
from services.audit import tables as audit
from services.books import tables as books
from services.conversations import tables as conversations
from services.core.db import metadata
from services.jobs import tables as jobs
from services.ledger import tables as ledger
from services.mail import tables as mail
from services.shops import tables as shops
from services.storefront import order_tables as storefront_orders
from services.storefront import tables as storefront
from services.storefront.beside import told_tables as storefront_told

ALL = (
    alerts, audit, books, conversations, jobs, ledger, mail, shops, storefront, storefront_orders,
    storefront_told,
)  # fmt: skip

__all__ = ["ALL", "metadata"]
