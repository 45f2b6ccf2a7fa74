"""Mails of the outbox through Graph: sign-in, tokens and secrets."""

import pytest
from sqlalchemy import Engine, text

from services.core.db import transaction
from services.mail.send import MailSendHandler
from services.shops.connections import list_connections
from tests.fakes.mail_services import Graph, aadsts
from tests.mail.mails import audit_of, mails_of, new_mail, queue, run, work_of
from tests.mail.services import graph


def test_graph_gets_one_sign_in_per_batch_and_four_calls_at_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(engine, *(new_mail(n) for n in range(12)))
    with graph(monkeypatch) as service:
        run(engine)

    assert (len(service.mails), service.tokens) == (12, 1)
    assert service.most_at_once <= 4
    mail = service.mails[0]
    assert mail["From"] == "Shopfleet <fleet@contoso.com>"
    assert mail.get_body(("html",)).get_content().strip() == "<p>Good morning.</p>"
    (first, *_) = mails_of(engine)
    assert (first["status"], first["transport"]) == ("sent", "graph")
    assert first["provider_id"].startswith("request-")


def test_an_expired_graph_secret_sets_the_connection_to_broken(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(engine, *(new_mail(n) for n in range(3)))
    with graph(monkeypatch) as service:
        service.sign_in_answer = aadsts("7000222")
        run(engine)
        assert service.mails == []
        assert {row[2] for row in work_of(engine)} == {"graph.client_secret_expired"}
        assert {row["status"] for row in mails_of(engine)} == {"queued"}
        with transaction(engine) as tx:
            (state,) = list_connections(tx)
            (error,) = tx.execute(text("select last_error from work_queue limit 1")).one()
        assert (state.provider, state.status, state.code) == (
            "graph",
            "broken",
            "graph.client_secret_expired",
        )
        assert "make a new one in the Entra admin center" in error
        assert Graph.SECRET not in error

        service.sign_in_answer = None
        with transaction(engine) as tx:
            tx.execute(text("update work_queue set status = 'pending', retry_count = 0, finished_at = null"))
        run(engine)

    assert len(service.mails) == 3
    with transaction(engine) as tx:
        assert [state.status for state in list_connections(tx)] == ["ok"]
    actions = [action for action, _ in audit_of(engine)]
    assert actions.count("connection.broken") == actions.count("connection.mended") == 1


def test_a_graph_token_revoked_early_is_replaced_within_the_call(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    effect = MailSendHandler(lambda: engine)
    with graph(monkeypatch) as service:
        queue(engine, new_mail(1))
        run(engine, effect)
        service.withdrawn.add("token-1")
        queue(engine, new_mail(2))
        run(engine, effect)

    assert (len(service.mails), service.tokens) == (2, 2)
    assert work_of(engine) == [("done", "sent", None)] * 2
