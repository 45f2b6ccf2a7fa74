"""Graph, SendGrid and Resend as the fleet's transport in tests."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.fakes.mail_services import Answer, Graph, Resend, SendGrid
from tests.mail.mails import mail_settings


@contextmanager
def graph(monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    service = Graph()
    with (
        service.serving(),
        mail_settings(
            monkeypatch,
            MAIL_TRANSPORT="graph",
            GRAPH_TENANT_ID="contoso.example",
            GRAPH_CLIENT_ID="the-app",
            GRAPH_CLIENT_SECRET=Graph.SECRET,
            GRAPH_SENDER=service.mailbox,
            GRAPH_API_BASE=service.url,
            GRAPH_LOGIN_BASE=service.url,
        ),
    ):
        yield service


@contextmanager
def sendgrid(monkeypatch: pytest.MonkeyPatch) -> Iterator[SendGrid]:
    service = SendGrid()
    with (
        service.serving(),
        mail_settings(
            monkeypatch,
            MAIL_TRANSPORT="sendgrid",
            SENDGRID_API_KEY=SendGrid.KEY,
            SENDGRID_API_BASE=service.url,
        ),
    ):
        yield service


@contextmanager
def resend(monkeypatch: pytest.MonkeyPatch, **more: str) -> Iterator[Resend]:
    service = Resend()
    with (
        service.serving(),
        mail_settings(
            monkeypatch,
            MAIL_TRANSPORT="resend",
            RESEND_API_KEY=Resend.KEY,
            RESEND_API_BASE=service.url,
            MAIL_RATE_PER_SECOND="1000",
            **more,
        ),
    ):
        yield service


def resend_says(status: int, name: str, message: str) -> Answer:
    return status, {"statusCode": status, "name": name, "message": message}, {}


def sendgrid_says(status: int, message: str, field: str | None = None) -> Answer:
    return status, {"errors": [{"message": message, "field": field, "help": None}]}, {}
