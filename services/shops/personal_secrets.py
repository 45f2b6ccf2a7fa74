"""A shop that is redacted whole loses its keys: there is nobody left who could ask us to use them."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection

from services.shops.personal import Holder, Subject, find_nothing, register_holder

_DELETE = "delete from shop_secrets where shop_id = %(shop_id)s"


def redact_secrets(tx: Connection, subject: Subject, now: datetime) -> Mapping[str, int]:
    """A whole shop's secrets are gone, those before the last rotation included; a customer has none."""
    del now
    if not subject.whole_shop:
        return {}
    return {"shop_secrets": tx.exec_driver_sql(_DELETE, {"shop_id": subject.shop_id}).rowcount}


register_holder(
    Holder(
        name="the shop's keys to other services",
        tables=("shop_secrets",),
        find=find_nothing,
        redact=redact_secrets,
    )
)
