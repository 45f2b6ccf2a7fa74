"""Imports every table of the project into ``metadata``."""

from services.accounts import tables as accounts
from services.alerts import tables as alerts
from services.audit import tables as audit
from services.bulk import tables as bulk
from services.closing import letter_tables as letters
from services.conversations import tables as conversations
from services.core.db import metadata
from services.costs import tables as costs
from services.jobs import tables as jobs
from services.ledger import tables as ledger
from services.mail import tables as mail
from services.outreach import tables as outreach
from services.payments import tables as payments
from services.shopfloor import tables as shopfloor
from services.shopify import tables as shopify
from services.shopify.logistics import tables as logistics
from services.shopify.orders import tables as orders
from services.shops import tables as shops
from services.timesheets import tables as timesheets

ALL = (
    accounts, alerts, audit, bulk, conversations, costs, jobs, ledger, letters, logistics, mail, orders,
    outreach, payments, shopfloor, shopify, shops, timesheets,
)  # fmt: skip

__all__ = ["ALL", "metadata"]
