"""The circuit breaker: why and for how long a route is not used."""

from datetime import timedelta

from services.core.errors import Deferred, Misconfigured, Refused
from services.core.settings import Settings
from services.mail.routes import MISCONFIGURED_PAUSE, CircuitBreaker
from services.mail.transports import make_fleet_route
from services.providers.outgoing_mail import MailThrottled


def test_a_wait_opens_the_breaker_until_it_is_over(settings: Settings) -> None:
    now = [100.0]
    breaker, route = CircuitBreaker(lambda: now[0]), make_fleet_route(settings)

    assert (
        breaker.open(route, MailThrottled("graph.throttled", "slow down", wait=timedelta(seconds=70)))
        is not None
    )
    now[0] += 69
    closed = breaker.find_fault(route)
    now[0] += 2

    assert isinstance(closed, Deferred)
    assert closed.wait == timedelta(seconds=1)
    assert breaker.find_fault(route) is None


def test_a_refused_credential_stops_the_rest_of_the_batch_for_ten_seconds(settings: Settings) -> None:
    now = [100.0]
    breaker, route = CircuitBreaker(lambda: now[0]), make_fleet_route(settings)
    fault = Misconfigured("graph.client_secret_expired", "make a new one")

    assert breaker.open(route, fault) is None
    assert breaker.find_fault(route) is fault
    now[0] += MISCONFIGURED_PAUSE.total_seconds()
    assert breaker.find_fault(route) is None


def test_a_refused_mail_does_not_open_the_breaker(settings: Settings) -> None:
    breaker, route = CircuitBreaker(lambda: 0.0), make_fleet_route(settings)

    assert breaker.open(route, Refused("smtp.recipient_refused", "550")) is None
    assert breaker.find_fault(route) is None
