"""Search in calls, messages and mails: by meaning where they have vectors, else by words."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete

from services.conversations.blocks import render_parts
from services.conversations.tables import interaction_vectors
from services.core.pg_arrays import arrays, int_array

NEWEST = 20_000
"""Interactions of all chosen shops that a search by words reads, the newest first."""

_UPSERT = """
insert into interaction_vectors (shop_id, interaction_id, model, digest, embedding, created_at)
values (%(shop_id)s, %(interaction_id)s, %(model)s, %(digest)s, %(embedding)s::real[], %(now)s)
on conflict (shop_id, interaction_id) do update
   set model = excluded.model, digest = excluded.digest, embedding = excluded.embedding,
       created_at = excluded.created_at
"""
_FIND_DIGESTS = """
select v.shop_id, v.interaction_id, v.model, v.digest
  from unnest(%(shop_id)s::int[], %(interaction_id)s::text[]) as k(shop_id, interaction_id)
  join interaction_vectors v using (shop_id, interaction_id)
"""
_HAS_PGVECTOR = "select exists (select from pg_extension where extname = 'vector')"
# Both are exact, and vectors have length 1: so the product is the cosine. pgvector computes it in C.
_SCORE = {
    True: "1 - (v.embedding::vector <=> %(vector)s::real[]::vector)",
    False: "(select sum(a * b) from unnest(v.embedding, %(vector)s::real[]) as u(a, b))",
}
_BY_MEANING = """
select i.*, {score} as score,
       (select m.phones || m.mails from merchants m where m.id = i.merchant_id) as addresses
  from interaction_vectors v
  join interactions i on i.shop_id = v.shop_id and i.provider_id = v.interaction_id
 where v.shop_id = any(%(shop_id)s::int[]) and v.model = %(model)s
   and cardinality(v.embedding) = cardinality(%(vector)s::real[])
 order by score desc, i.occurred_at desc limit %(limit)s
"""
_BY_WORDS = """
select i.*, null::float as score,
       (select m.phones || m.mails from merchants m where m.id = i.merchant_id) as addresses
  from (select * from interactions where shop_id = any(%(shop_id)s::int[])
         order by occurred_at desc limit %(newest)s) i
 where to_tsvector('simple', i.body) || jsonb_to_tsvector('simple', i.detail, '["string"]')
       @@ websearch_to_tsquery('simple', %(words)s)
 order by i.occurred_at desc limit %(limit)s
"""


class FoundInteraction(NamedTuple):
    """``addresses``: the participants but the shop, or all of them if they are on no page.

    ``score`` is the cosine, from -1 to 1; None for a search by words.
    """

    shop_id: int
    kind: str
    provider_id: str
    occurred_at: datetime
    page_id: str
    addresses: list[str]
    text: str
    score: float | None


def read_text(row: Mapping[str, Any], parts: Collection[str]) -> str:
    """Return the text of an interaction: its body and the content of its ``parts``."""
    rendered = render_parts(row)
    texts = [row["body"]]
    for name in parts:
        for block in rendered.get(name, ()):
            paragraphs = [child["paragraph"]["rich_text"] for child in block["toggle"].get("children", ())]
            texts += [rich[0]["text"]["content"] for rich in paragraphs]
    return "\n".join(filter(None, texts))


def find_digests(tx: Connection, keys: Collection[tuple[int, str]]) -> dict[tuple[int, str], str]:
    """Return the model and the digest of the text of each stored vector, joined by a colon."""
    rows = tx.exec_driver_sql(_FIND_DIGESTS, arrays("shop_id interaction_id", sorted(keys)))
    return {(row.shop_id, row.interaction_id): f"{row.model}:{row.digest}" for row in rows}


def store_vector(
    tx: Connection, key: tuple[int, str], model: str, digest: str, embedding: Sequence[float], now: datetime
) -> None:
    """Store the vector of an interaction in the place of an earlier one."""
    shop_id, interaction_id = key
    values = {"shop_id": shop_id, "interaction_id": interaction_id, "model": model, "digest": digest}
    tx.exec_driver_sql(_UPSERT, {**values, "embedding": _encode(embedding), "now": now})


def delete_vectors(tx: Connection, keys: Collection[tuple[int, str]]) -> None:
    """Delete the vectors of these interactions: a text can be guessed from its vector."""
    column = interaction_vectors.c
    for shop_id, interaction_id in keys:
        tx.execute(
            delete(interaction_vectors).where(
                column.shop_id == shop_id, column.interaction_id == interaction_id
            )
        )


def search_meaning(
    tx: Connection, shop_ids: Collection[int], model: str, vector: Sequence[float], limit: int
) -> list[FoundInteraction]:
    """Return the interactions whose vectors by ``model`` are closest to ``vector``, the closest first."""
    has_pgvector = bool(tx.exec_driver_sql(_HAS_PGVECTOR).scalar())
    values = {"model": model, "vector": _encode(vector), "limit": limit}
    query = _BY_MEANING.format(score=_SCORE[has_pgvector])
    return _find(tx, query, shop_ids, values)


def search_words(tx: Connection, shop_ids: Collection[int], words: str, limit: int) -> list[FoundInteraction]:
    """Return the interactions with all ``words``, among the ``NEWEST`` ones, the newest first."""
    return _find(tx, _BY_WORDS, shop_ids, {"words": words, "newest": NEWEST, "limit": limit})


def _find(
    tx: Connection, query: str, shop_ids: Collection[int], values: dict[str, Any]
) -> list[FoundInteraction]:
    rows = tx.exec_driver_sql(query, values | {"shop_id": int_array(sorted(shop_ids))})
    return [_make_found({**row._mapping}) for row in rows]


def _make_found(row: Mapping[str, Any]) -> FoundInteraction:
    text = read_text(row, ("summary", "ai_summary", "voicemail", "transcript"))
    others = [one for one in row["participants"] if one in (row["addresses"] or ())]
    found: dict[str, Any] = {"addresses": others or row["participants"], "text": " ".join(text.split())}
    return FoundInteraction(
        **{name: row[name] for name in FoundInteraction._fields if name not in found}, **found
    )


def _encode(vector: Sequence[float]) -> str:
    return "{" + ",".join(f"{number:.7g}" for number in vector) + "}"
