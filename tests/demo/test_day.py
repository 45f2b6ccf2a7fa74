"""The generated day: its contents and its totals."""

import json
import random
from datetime import UTC, datetime

import pytest

from services.demo.day import plan_day, plan_opening
from services.demo.delivery import BAD_SIGNATURE, STALE, DayPlan
from services.demo.expected import recompute
from services.demo.shops import FOLLOWER, LEADER, DemoShop, make_shops

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
OWNING = frozenset({"harbour"})
FOLLOWS = {FOLLOWER: LEADER}


def make(seed: int = 1, events: int = 200) -> tuple[list[DemoShop], DayPlan, DayPlan]:
    rng = random.Random(seed)
    shops = make_shops(rng)
    return shops, plan_opening(shops, rng, NOW), plan_day(shops, rng, events, NOW)


def test_one_seed_gives_one_day() -> None:
    _, _, first = make(seed=3)
    _, _, again = make(seed=3)
    _, _, other = make(seed=4)

    assert [post.body for post in first.posts] == [post.body for post in again.posts]
    assert [post.body for post in first.posts] != [post.body for post in other.posts]


def test_day_contains_every_planted_fault() -> None:
    shops, _, day = make()

    assert {shop.currency for shop in shops} == {"CAD", "JPY", "EUR"}
    assert day.repeated > 0
    assert set(day.refused) == {BAD_SIGNATURE, STALE}
    assert {post.fault for post in day.accepted} > {""}
    times = [post.at for post in day.posts if post.shop == "harbour" and not post.fault]
    assert times != sorted(times)
    orders = [json.loads(post.body)["id"] for post in day.accepted if post.topic == "orders/paid"]
    assert min(orders) > 2**53


def test_each_shop_gets_mails_in_the_form_of_its_mail_server() -> None:
    _, opening, day = make()
    paths = {(post.shop, post.path) for post in day.accepted if post.topic in ("mail", "email.received")}

    assert paths == {
        ("linden", "/webhooks/resend/linden"),
        *((shop, f"/webhooks/standard/{shop}/mail") for shop in ("harbour", LEADER, FOLLOWER)),
    }
    state = recompute([*opening.deliveries, *day.deliveries], OWNING, FOLLOWS)
    assert {shop for shop, provider_id in state.interactions if provider_id.startswith("mail:")} == {
        "harbour",
        "linden",
        LEADER,
        FOLLOWER,
    }


def test_day_is_about_as_long_as_requested() -> None:
    _, _, day = make(events=600)

    assert 450 < len(day.accepted) < 800


@pytest.mark.parametrize("events", [60, 400])
def test_breaks_are_planted_in_two_shops(events: int) -> None:
    _, _, day = make(events=events)

    assert {kind for _, kind, _ in day.breaks} == {"missing_here", "missing_there", "amount"}
    assert len({shop for shop, _, _ in day.breaks}) == 2


def test_everything_happens_on_the_last_day_of_each_shops_zone() -> None:
    shops, _, day = make()

    zones = {shop.slug: shop.zone for shop in shops}
    days = {(post.shop, post.at.astimezone(zones[post.shop]).date().isoformat()) for post in day.posts}
    assert days == {(slug, "2026-11-20") for slug in ("harbour", "sakura", "linden", "momiji")}


def test_totals_of_a_day_do_not_depend_on_the_order() -> None:
    _, opening, day = make()
    deliveries = [*opening.accepted, *day.accepted]

    expected = recompute(deliveries, OWNING, FOLLOWS)
    random.Random(9).shuffle(deliveries)

    assert recompute(deliveries, OWNING, FOLLOWS) == expected
    assert recompute(deliveries + deliveries, OWNING, FOLLOWS) == expected
    assert len(expected.levels) == 48
    assert len(expected.orders) > 30
