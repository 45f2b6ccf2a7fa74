"""A redaction and an export know the people who get reminders."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.ingress.app import make_flask
from services.privacy.outreach_data import find_people, redact_people
from services.privacy.subject import DataSubject
from tests.outreach.audience import NINE, Audience, audience_of_harbour
from tests.outreach.test_unsubscribe import read_path


@pytest.fixture
def audience(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Audience]:
    with audience_of_harbour(engine, monkeypatch) as one:
        one.add({"external_id": "ada", "name": "Ada"}, {"external_id": "bo"})
        one.run("send-reminders", NINE)
        yield one


def test_an_export_has_the_person_with_consents_and_mails(audience: Audience) -> None:
    subject = DataSubject(shop_id=audience.shop.id, emails=frozenset({"ada@example.com"}))
    with transaction(audience.engine) as tx:
        (row,) = find_people(tx, subject)

    assert (row["number"], row["name"]) == ("ada", "Ada")
    assert row["consents"][0]["source"] == "sign-up form"
    assert row["mails"][0]["series"] == "reminders"


def test_a_redaction_empties_the_person_and_keeps_the_link_to_unsubscribe(audience: Audience) -> None:
    path = read_path(audience)
    subject = DataSubject(shop_id=audience.shop.id, emails=frozenset({"ada@example.com"}))
    with transaction(audience.engine) as tx:
        assert redact_people(tx, subject, NINE) == {"outreach_people": 1, "outreach_consents": 1}
    with transaction(audience.engine) as tx:
        assert redact_people(tx, subject, NINE) == {"outreach_people": 0, "outreach_consents": 0}

    found = audience.rows("select external_id, email, name from outreach_people order by id")
    assert found == [("redacted:1", "", ""), ("bo", "bo@example.com", "")]
    assert audience.rows("select source from outreach_consents where withdrawn_at is not null") == [("",)]
    assert make_flask().test_client().post(path).status_code == 200
    assert audience.run("send-reminders", NINE, force=True) == {
        "sent": 2, "skipped": 1, "already_sent": 1,
    }  # fmt: skip
    whole = DataSubject(shop_id=audience.shop.id, whole_shop=True)
    with transaction(audience.engine) as tx:
        assert redact_people(tx, whole, NINE)["outreach_people"] == 1
