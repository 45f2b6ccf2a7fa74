"""Personal data of people who get reminders: who they are, their consents, and what was sent."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from services.core.pg_arrays import text_array
from services.privacy.subject import DataSubject, PersonalDataRows, PersonalDataSource

_WHO = "p.shop_id = %(shop_id)s and (%(whole_shop)s or p.email = any(%(email)s::text[]))"
_FIND = f"""
select p.external_id as number, p.email, p.name, p.timezone, p.signed_up_at, p.last_active_at,
       (select coalesce(jsonb_agg(jsonb_build_object('basis', c.basis, 'source', c.source,
                                                     'given_at', c.given_at, 'expires_at', c.expires_at,
                                                     'withdrawn_at', c.withdrawn_at) order by c.id), '[]')
          from outreach_consents c where c.person_id = p.id) as consents,
       (select coalesce(jsonb_agg(jsonb_build_object('series', s.series, 'step', s.step, 'status', s.status,
                                                     'at', s.created_at) order by s.id), '[]')
          from outreach_sends s where s.person_id = p.id) as mails
  from outreach_people p where {_WHO} and p.email <> '' order by p.id
"""  # noqa: S608 - constants only
_WITHDRAW = f"""
update outreach_consents c set source = '', withdrawn_at = coalesce(c.withdrawn_at, %(now)s),
       withdrawn_by = coalesce(c.withdrawn_by, 'redaction')
  from outreach_people p where p.id = c.person_id and {_WHO} and (c.source <> '' or c.withdrawn_at is null)
"""  # noqa: S608
# The row stays: a link to unsubscribe of an old mail works, and no step goes twice.
_EMPTY = f"""
update outreach_people p
   set email = '', name = '', timezone = '', external_id = 'redacted:' || p.id, signed_up_at = null,
       last_active_at = null, changed_at = %(now)s
 where {_WHO} and p.email <> ''
"""  # noqa: S608


def find_people(tx: Connection, subject: DataSubject) -> PersonalDataRows:
    """Yield the people with the subject's addresses, with their consents and mails."""
    yield from map(dict, tx.exec_driver_sql(_FIND, _values(subject)).mappings())


def redact_people(tx: Connection, subject: DataSubject, now: datetime) -> Mapping[str, int]:
    """Empty the rows of people with the subject's addresses, and end their consents."""
    values = _values(subject) | {"now": now}
    consents = tx.exec_driver_sql(_WITHDRAW, values).rowcount
    return {"outreach_people": tx.exec_driver_sql(_EMPTY, values).rowcount, "outreach_consents": consents}


def _values(subject: DataSubject) -> dict[str, Any]:
    emails = text_array(sorted(subject.emails))
    return {"shop_id": subject.shop_id, "whole_shop": subject.whole_shop, "email": emails}


OUTREACH = PersonalDataSource(
    name="people who get reminders",
    tables=("outreach_people", "outreach_consents", "outreach_sends"),
    find=find_people,
    redact=redact_people,
)
