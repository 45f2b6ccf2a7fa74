"""Compares a shop's domain with the one that Shopify returns for its token."""

import click

from services.core.db import transaction
from services.core.errors import WorkError
from services.shopify.admin import read_domain
from services.shops.shops import ShopInvalid, check_domain, get_shop, normal_domain


def compare_domain(slug: str, wanted: str) -> None:
    """Raise ``ShopInvalid`` if Shopify returns another domain; print it if nothing was checked."""
    domain = normal_domain(wanted)
    check_domain(domain)
    with transaction() as tx:
        shop_id = get_shop(tx, slug).id
    try:
        found = read_domain(shop_id, domain)
    except WorkError as fault:
        click.echo(f"{domain} was not checked: {fault}. Run this again later to check it.", err=True)
        return
    if not found:
        hint = f"record it with `fleet shops secret {slug} shopify-token --stdin` and run this again"
        click.echo(f"{domain} was not checked: {slug} has no shopify-token; {hint}.", err=True)
    elif found != domain:
        raise ShopInvalid(
            f"shopify_domain={domain!r} is not the domain of the shop that the token opens: "
            f"use {found!r}, or record the token of {domain!r} first"
        )
