"""Bulk operations of one shop of the sandbox: one at a time, with a file of JSON lines.

https://shopify.dev/docs/api/usage/bulk-operations/queries: each object of a connection is a line, after its
parent and with the parent's id as ``__parentId``. An operation is CREATED, then RUNNING, then COMPLETED.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import graphql
import orjson

from services.sandbox.shopify.schema import DocumentRefused, read_document
from services.sandbox.shopify.values import Node, gid

Execute = Callable[[graphql.DocumentNode, datetime], tuple[dict[str, Any] | None, list[Node]]]


@dataclass(slots=True)
class BulkOperations:
    """``url`` is the address under which the files are served."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    looks_left: int = 1
    """How many more times the newest operation is RUNNING."""
    fail_next: int = 0

    def run(self, text: str, now: datetime, execute: Execute) -> Node:
        """Run the query ``text``; return the payload of ``bulkOperationRunQuery``."""
        if any(node["status"] in ("CREATED", "RUNNING") for node in self.nodes.values()):
            return _refuse("A bulk query operation for this app and shop is already in progress")
        try:
            tree = read_document(text)
        except DocumentRefused as refused:
            return _refuse(f"Invalid bulk query: {refused}")
        data, errors = execute(tree, now)
        if errors or data is None:
            return _refuse(f"Invalid bulk query: {errors}")
        lines = [orjson.dumps(line) for line in _list_lines(data, None)]
        number = len(self.nodes) + 1
        name = f"{number}.jsonl"
        self.files[name] = b"".join(line + b"\n" for line in lines)
        self.nodes[gid("BulkOperation", number)] = {
            "__typename": "BulkOperation",
            "id": gid("BulkOperation", number),
            "status": "CREATED",
            "errorCode": None,
            "objectCount": str(len(lines)),
            # Shopify has no file without objects.
            "url": f"{self.url}/{name}" if lines else None,
        }
        self.looks_left = 1
        return {"bulkOperation": self._shown(self.nodes[gid("BulkOperation", number)]), "userErrors": []}

    def look(self, id: str) -> Node | None:  # noqa: A002 - the argument's name
        """Return the operation, one step further than at the last look."""
        node = self.nodes.get(id)
        if node is None:
            return None
        if node["status"] in ("CREATED", "RUNNING"):
            node["status"] = "RUNNING" if self.looks_left > 0 else "COMPLETED"
            self.looks_left -= 1
            if node["status"] == "COMPLETED" and self.fail_next > 0:
                self.fail_next -= 1
                node |= {"status": "FAILED", "errorCode": "INTERNAL_SERVER_ERROR"}
        return self._shown(node)

    def _shown(self, node: Node) -> Node:
        return node if node["status"] == "COMPLETED" else {**node, "url": None}


def _list_lines(value: Node, parent: str | None) -> Iterator[Node]:
    """Yield a line for each object of the connections in ``value``, children after their parent."""
    for connection in value.values():
        if not _is_connection(connection):
            continue
        for edge in connection["edges"]:
            node = edge["node"]
            line = {name: part for name, part in node.items() if not _is_connection(part)}
            yield line | ({"__parentId": parent} if parent else {})
            yield from _list_lines(node, node.get("id"))


def _is_connection(value: Any) -> bool:
    return isinstance(value, dict) and "edges" in value


def _refuse(message: str) -> Node:
    return {"bulkOperation": None, "userErrors": [{"field": None, "message": message}]}
