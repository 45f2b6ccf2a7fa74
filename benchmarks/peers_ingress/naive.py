"""The naive way: Flask, gunicorn's thread workers, an ORM insert per request, then ``.delay()``.

Written as the frameworks' own documentation shows it. The answer is sent after the row is committed and
the message is published, so it is as durable as ours. The connection pool is as large as the thread pool.
"""

import base64
import hashlib
import hmac
import os
from datetime import UTC, datetime

from flask import Flask, Response, request
from sqlalchemy import BigInteger, DateTime, Identity, LargeBinary, Text, create_engine
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from benchmarks.peers_workers.plain_celery import order_ingest_event

SECRET = os.environ["BENCH_SECRET"].encode()
KEPT_HEADERS = ("X-Shopify-Topic", "X-Shopify-Shop-Domain", "X-Shopify-Webhook-Id", "X-Shopify-API-Version")

app = Flask(__name__)
engine = create_engine(
    os.environ["BENCH_DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://"),
    pool_size=int(os.environ["BENCH_THREADS"]),
    max_overflow=0,
)
Session = sessionmaker(engine)


class Base(DeclarativeBase):
    """The naive way's own mapping of the table."""


class InboundEvent(Base):
    """A received webhook."""

    __tablename__ = "inbound_events"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    shop_id: Mapped[int]
    provider: Mapped[str] = mapped_column(Text)
    topic: Mapped[str] = mapped_column(Text)
    delivery_key: Mapped[str] = mapped_column(Text)
    headers: Mapped[dict[str, str]] = mapped_column(JSONB)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    received_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


@app.get("/health")
def health() -> str:
    """Answer once the application is loaded."""
    return "ok"


@app.post("/webhooks/shopify/<shop>")
def receive(shop: str) -> Response:
    """Verify, store, publish, answer."""
    body = request.get_data()
    expected = base64.b64encode(hmac.new(SECRET, body, hashlib.sha256).digest()).decode()
    if not hmac.compare_digest(expected, request.headers.get("X-Shopify-Hmac-Sha256", "")):
        return Response(status=401)
    event = InboundEvent(
        shop_id=1,
        provider="shopify",
        topic=request.headers["X-Shopify-Topic"],
        delivery_key=request.headers["X-Shopify-Webhook-Id"],
        headers={name: request.headers.get(name, "") for name in KEPT_HEADERS},
        body=body,
        received_at=datetime.now(UTC),
    )
    with Session() as session:
        session.add(event)
        try:
            session.commit()
        except IntegrityError:
            return Response(status=200)
        event_id = event.id
    order_ingest_event.delay(event_id)
    return Response(status=200)
