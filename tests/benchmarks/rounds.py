"""Round by round, each client in its turn; and the proof that all of them did the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import permutations
from typing import TypeVar

from tests.benchmarks.clients import CLIENTS, Spent, cold, warm
from tests.benchmarks.figures import Round, Series
from tests.benchmarks.service import Seen, Service

BATCH = 100
WARM_ROUNDS, WARM_DROPPED = 40, 2
COLD_ROUNDS, COLD_DROPPED = 18, 1

Turns = dict[str, Callable[[], Spent]]
Result = TypeVar("Result")


def measure(service: Service, inherited: dict[str, str]) -> list[Series]:
    """Warm over TLS and HTTP, then cold over TLS.

    Raises RuntimeError if the clients differ in what they send or how often they connect, or if
    any request was not accepted.
    """
    for client in CLIENTS:
        cold(client, service.tls, inherited)
    _check(service.seen()[0], requests=len(CLIENTS), connections=len(CLIENTS))
    over_tls, over_http = _warm_rounds(service, inherited)
    runs = _cold_rounds(service, inherited)
    batched = len(CLIENTS) * (WARM_DROPPED + WARM_ROUNDS) * BATCH
    alone = len(CLIENTS) * (1 + COLD_DROPPED + COLD_ROUNDS)
    seen_tls, seen_http = service.seen()
    _check(seen_tls, requests=batched + alone, connections=len(CLIENTS) + alone)
    _check(seen_http, requests=batched, connections=len(CLIENTS))
    return [
        Series("warm, TLS", over_tls),
        Series("warm, HTTP", over_http),
        Series("cold, TLS", runs),
    ]


def _warm_rounds(
    service: Service, inherited: dict[str, str]
) -> tuple[tuple[Round, ...], tuple[Round, ...]]:
    with ExitStack() as stack:
        over_tls = _warm_turns(service.tls, inherited, stack)
        over_http = _warm_turns(service.plain, inherited, stack)
        rounds = [
            (take_turns(over_tls, number), take_turns(over_http, number))
            for number in range(WARM_DROPPED + WARM_ROUNDS)
        ]
    counted_tls, counted_http = zip(*rounds[WARM_DROPPED:], strict=True)
    return counted_tls, counted_http


def _warm_turns(endpoint: str, inherited: dict[str, str], stack: ExitStack) -> Turns:
    opened = {c: stack.enter_context(warm(c, endpoint, inherited)) for c in CLIENTS}
    return {c: partial(client.batch, BATCH) for c, client in opened.items()}


def _cold_rounds(service: Service, inherited: dict[str, str]) -> tuple[Round, ...]:
    turns: Turns = {c: partial(cold, c, service.tls, inherited) for c in CLIENTS}
    rounds = [take_turns(turns, number) for number in range(COLD_DROPPED + COLD_ROUNDS)]
    return tuple(rounds[COLD_DROPPED:])


def take_turns(turns: Mapping[str, Callable[[], Result]], number: int) -> dict[str, Result]:
    """One round, in another order each time: whose traces a client finds in the caches may matter.

    The results are in the clients' own order.
    """
    orders = list(permutations(turns))
    # Neighbours in this list begin alike; 7 leads through all of it.
    results = {client: turns[client]() for client in orders[7 * number % len(orders)]}
    return {client: results[client] for client in turns}


def _check(seen: Seen, *, requests: int, connections: int) -> None:
    if seen.statuses != {200} or len(seen.kinds) != 1:
        raise RuntimeError(f"the clients do not send the same accepted request: {seen}")
    if (seen.requests, seen.connections) != (requests, connections):
        raise RuntimeError(
            f"{seen.requests} requests came on {seen.connections} connections, but it has to be"
            f" {requests} on {connections}"
        )
