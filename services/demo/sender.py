"""Posts webhooks over HTTP as providers do: signed at each try, in parallel, with retries."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Lock

import httpx

from services.core.clock import utc_now
from services.core.errors import ShopfleetError
from services.demo.delivery import BAD_SIGNATURE, STALE, Delivery
from services.demo.shops import DemoShop
from services.providers.registry import SENDERS, sign

POST_THREADS = 8
STALE_BY = timedelta(minutes=10)


@dataclass(slots=True)
class Answers:
    """The answers of ingress. ``ids`` are the events it acknowledged with 200."""

    posts: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    """Posts answered 401, by their fault."""
    tried_again: int = 0
    ids: set[int] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    @property
    def duplicates(self) -> int:
        """Posts of a webhook that another post had recorded: all that are neither refused nor the first.

        A first post whose answer was lost is sent again and answered ``duplicate``, but recorded only once.
        """
        return self.posts - self.refused.total() - len(self.ids)


class WebhookPoster:
    """Posts to the ingress at ``url``. One connection pool; safe to share between threads."""

    def __init__(
        self, url: str, sandbox_url: str, shops: Sequence[DemoShop], *, give_up_after_seconds: float = 60.0
    ) -> None:
        self.answers = Answers()
        self._url, self.sandbox_url = url, sandbox_url
        self._shops = {shop.slug: shop for shop in shops}
        self._give_up_after_seconds = give_up_after_seconds
        self._lock = Lock()
        self._begun: set[int] = set()
        self._http = httpx.Client(timeout=10.0)

    def close(self) -> None:
        self._http.close()

    def send_all(self, posts: Sequence[Delivery], sent: Callable[[int], None] = lambda _: None) -> None:
        """Send ``posts``; call ``sent`` with their number, in this thread. Raises if one is not accepted."""
        with ThreadPoolExecutor(POST_THREADS, thread_name_prefix="sender") as pool:
            futures = [pool.submit(self.send, post) for post in posts]
            try:
                for count, future in enumerate(as_completed(futures), start=1):
                    future.result()
                    sent(count)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def send(self, delivery: Delivery) -> None:
        """Post ``delivery``; retry after a 5xx answer and a lost connection."""
        with self._lock:
            is_first = id(delivery) not in self._begun
            self._begun.add(id(delivery))
        if is_first and delivery.before is not None:
            self.control(delivery.before)
        deadline = time.monotonic() + self._give_up_after_seconds
        pause = 0.1
        while True:
            try:
                answer = self._http.post(
                    self._url + delivery.path, content=delivery.body, headers=self._headers(delivery)
                )
            except httpx.HTTPError as fault:
                why = type(fault).__name__
            else:
                if answer.status_code < 500:
                    self._count(delivery, answer)
                    return
                why = f"{answer.status_code} {answer.text[:80]}"
            if time.monotonic() > deadline:
                raise ShopfleetError(f"{delivery.path} {delivery.topic} was not accepted: {why}")
            with self._lock:
                self.answers.tried_again += 1
            time.sleep(pause)
            pause = min(pause * 2, 2.0)

    def control(self, request: dict[str, object]) -> None:
        answer = self._http.post(f"{self.sandbox_url}/_control", json=request)
        if answer.status_code != 200:
            raise ShopfleetError(f"the sandbox refused {sorted(request)}: {answer.text[:200]}")

    def _headers(self, delivery: Delivery) -> dict[str, str]:
        shop = self._shops[delivery.shop]
        name = SENDERS[delivery.provider].webhook_secret.name
        secret = shop.secrets[f"{name}:{delivery.topic}" if delivery.provider == "standard" else name]
        now = utc_now() - (STALE_BY if delivery.fault == STALE else timedelta())
        signed = delivery.body + b" " if delivery.fault == BAD_SIGNATURE else delivery.body
        return sign(
            delivery.provider,
            signed,
            secret,
            topic=delivery.topic,
            webhook_id=delivery.webhook_id,
            domain=shop.domain,
            now=now,
        )

    def _count(self, delivery: Delivery, answer: httpx.Response) -> None:
        document = answer.json()
        outcome = str(document.get("status") or document.get("error"))
        with self._lock:
            answers = self.answers
            answers.posts += 1
            answers.outcomes[outcome] += 1
            if answer.status_code == 200:
                answers.ids.add(int(document["id"]))
            elif answer.status_code == 401:
                answers.refused[delivery.fault] += 1
            if (answer.status_code == 401) != delivery.is_refused or answer.status_code not in (200, 401):
                wanted = 401 if delivery.is_refused else 200
                answers.wrong.append(
                    f"{delivery.path} {delivery.topic}: {answer.status_code} {outcome}, wanted {wanted}"
                )
