"""Webhooks at a steady rate, each sent again until it is accepted, as by its provider."""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime

from services.demo.day import shuffle
from services.demo.delivery import Delivery
from services.demo.orders import ShopDay
from services.demo.sender import POST_THREADS, WebhookPoster
from services.demo.shops import DemoShop

ORDERS_AT_A_TIME = 20


def make_posts(shops: Sequence[DemoShop], rng: random.Random, now: datetime) -> Iterator[Delivery]:
    """Yield webhooks without end: sales, refunds and payments, some of them twice or out of order."""
    number = 1001
    while True:
        days = [ShopDay(shop, shop.yesterday(now)[1], rng, number) for shop in shops]
        number += ORDERS_AT_A_TIME
        for day in days:
            day.sell(ORDERS_AT_A_TIME)
        timed = [(one.at - day.begins, one) for day in days for one in day.deliveries]
        yield from shuffle([one for _, one in sorted(timed, key=lambda pair: pair[0])], rng)


class Traffic:
    """Posts ``per_second`` webhooks in the background until ``stop``."""

    def __init__(self, sender: WebhookPoster, posts: Iterator[Delivery], per_second: float) -> None:
        self.sent: list[Delivery] = []
        self._sender, self._posts, self._pause_seconds = sender, posts, 1 / per_second
        self._pool = ThreadPoolExecutor(POST_THREADS, thread_name_prefix="traffic")
        self._futures: list[Future[None]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def start(self) -> None:
        """Start to post."""
        self._thread.start()

    def stop(self) -> None:
        """Stop posting; return when all posts are accepted. Raises the error of a failed post."""
        self._over.set()
        self._thread.join()
        for future in self._futures:
            future.result()
        self._pool.shutdown()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._over.is_set():
            delivery = next(self._posts)
            self.sent.append(delivery)
            self._futures.append(self._pool.submit(self._sender.send, delivery))
            due += self._pause_seconds
            self._over.wait(max(0.0, due - time.monotonic()))
