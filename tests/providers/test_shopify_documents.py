"""Every document we send is valid in the project's part of the Admin schema, and in Shopify's own schemas."""

import gzip
import importlib
import json
from functools import cache
from pathlib import Path

import pytest

import services.providers
from services.providers.shopify import API_VERSION
from services.providers.shopify_documents import BULK_QUERIES
from services.sandbox.shopify.schema import load_schema

SCHEMAS = Path(__file__).parents[3] / "shared" / "samples" / "shopify" / "admin_graphql"


def _documents():
    """Every document of every module with ``documents`` in its name, so that a new one is included."""
    for path in sorted(Path(services.providers.__file__).parent.glob("*_documents.py")):
        module = importlib.import_module(f"services.providers.{path.stem}")
        for name, text in vars(module).items():
            if name[0].isupper() and name.isupper() and isinstance(text, str):
                yield f"{path.stem}.{name}", text


DOCUMENTS = dict(_documents()) | {f"bulk.{name}": text for name, text in BULK_QUERIES.items()}

OURS = "ours"
"""The project's part of the schema; ``tests.sandbox.test_admin_schema`` compares it with the whole."""


@cache
def schema(version):
    from graphql import build_client_schema

    if version == OURS:
        return load_schema()
    if not SCHEMAS.is_dir():
        pytest.skip("Shopify's Admin schemas are not beside this project (../shared/samples)")
    with gzip.open(SCHEMAS / f"admin_{version}.json.gz") as file:
        # Some of Shopify's deprecations violate a newer rule about schemas.
        return build_client_schema(json.load(file)["data"], assume_valid=True)


@pytest.mark.parametrize("version", [OURS, "2026-04", "2026-07", "2026-10"])
@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_document_is_valid(name, version):
    from graphql import parse, validate

    assert validate(schema(version), parse(DOCUMENTS[name])) == []


@pytest.mark.parametrize("version", ["2026-04", "2026-07", "2026-10"])
@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_document_asks_for_no_deprecated_field(name, version):
    from graphql import NoDeprecatedCustomRule, parse, validate

    assert validate(schema(version), parse(DOCUMENTS[name]), [NoDeprecatedCustomRule]) == []


def test_document_with_an_unknown_directive_is_invalid():
    from graphql import parse, validate

    wrong = DOCUMENTS["shopify_documents.SET_AVAILABLE"].replace(
        "@idempotent(key: $key)", "@idempotentt(key: $key)"
    )

    assert validate(schema(OURS), parse(wrong))


def test_our_version_is_among_the_checked_schemas():
    assert {"shopify_documents.SET_AVAILABLE", "shopify_documents.READ_LEVELS"} <= set(DOCUMENTS)
    assert API_VERSION in ("2026-04", "2026-07", "2026-10")


def test_variables_that_we_send_are_accepted(sandbox):
    """The real client sends the input; then the schema coerces exactly that input."""
    import httpx
    from graphql import parse
    from graphql.execution.values import get_variable_values

    from services.providers.shopify_admin import LevelQuantity, ShopifyAdmin, ShopLevelKey, admin_base_url

    sent = []
    with httpx.Client(
        event_hooks={"request": [lambda request: sent.append(json.loads(request.content))]}
    ) as http:
        admin = ShopifyAdmin(http, admin_base_url("ada.myshopify.com", f"{sandbox.url}/shopify"), "shpat_1")
        place = ShopLevelKey(2**60, 7)
        admin.set_available(
            [LevelQuantity(place, 5, None)], reference="gid://shopfleet/Work/1", idempotency_key="1"
        )
        admin.fetch_levels([place])

    for request in sent:
        operation = parse(request["query"]).definitions[0]
        found = get_variable_values(schema(OURS), operation.variable_definitions, request["variables"])
        assert not isinstance(found, list), found
