"""The file of a bulk operation: lines across chunks, parts of an object, and files that are gone."""

from collections.abc import Iterator

import httpx
import pytest

from services.core.errors import RetryLater
from services.providers.shopify_bulk import EXPIRED, UNORDERED, group_parts, stream_objects


def serve(*parts: bytes, status: int = 200) -> httpx.Client:
    def answer(_: httpx.Request) -> httpx.Response:
        def stream() -> Iterator[bytes]:
            yield from parts

        return httpx.Response(status, content=stream())

    return httpx.Client(transport=httpx.MockTransport(answer))


def test_lines_of_a_file_are_read_across_chunks_and_keep_unicode_separators() -> None:
    found = list(
        stream_objects(serve(b'{"a":"x\xe2\x80', b'\xa8y"}\n{"a"', b":2}"), "https://files.example/1")
    )

    assert found == [{"a": "x\u2028y"}, {"a": 2}]


@pytest.mark.parametrize(("status", "code"), [(403, EXPIRED), (404, EXPIRED), (503, "shopify.unavailable")])
def test_file_that_is_not_there_is_tried_again(status: int, code: str) -> None:
    with pytest.raises(RetryLater) as raised:
        list(stream_objects(serve(status=status), "https://files.example/1"))

    assert raised.value.code == code


def test_file_that_ends_within_a_line_is_tried_again() -> None:
    with pytest.raises(RetryLater):
        list(stream_objects(serve(b'{"a":1}\n{"a'), "https://files.example/1"))


@pytest.mark.parametrize("line", [b"null", b"[]", b'"x"', b"{}", b'{"error":"internal"}'])
def test_line_of_no_object_asks_for_another_operation(line: bytes) -> None:
    found = stream_objects(serve(b'{"id":"p1"}\n' + line + b"\n"), "https://files.example/1")

    with pytest.raises(RetryLater) as raised:
        list(group_parts(found, "parts"))

    assert raised.value.code == UNORDERED


def test_part_that_does_not_follow_its_object_is_an_error() -> None:
    lines = [{"id": "p1"}, {"id": "v1", "__parentId": "p1"}, {"id": "p2"}]
    assert [len(one["parts"]["nodes"]) for one in group_parts(lines, "parts")] == [1, 0]

    with pytest.raises(RetryLater):
        list(group_parts([*lines, {"id": "v2", "__parentId": "p1"}], "parts"))
