"""Delays: bounded, spread, never earlier than the server asked for."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from cloudfs.concurrency.backoff import Backoff

BACKOFF = Backoff(first_s=1.0, cap_s=60.0)


def test_ceilings_double_up_to_the_cap() -> None:
    assert [BACKOFF.ceiling_s(n) for n in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert BACKOFF.ceiling_s(10**9) == 60


def test_a_seed_gives_the_same_delays_again() -> None:
    def delays() -> list[float]:
        chance = random.Random(7)
        return [BACKOFF.delay_s(n, chance) for n in range(20)]

    assert delays() == delays()
    assert len(set(delays())) == 20


@given(st.integers(0, 10**6), st.integers())
def test_delays_lie_between_nothing_and_the_ceiling(attempt: int, seed: int) -> None:
    assert 0 <= BACKOFF.delay_s(attempt, random.Random(seed)) <= BACKOFF.ceiling_s(attempt) <= 60


@given(st.integers(0, 100), st.integers(), st.floats(0.001, 1e9))
def test_retry_after_is_honoured_but_not_for_ever(attempt: int, seed: int, asked_s: float) -> None:
    delay_s = BACKOFF.delay_s(attempt, random.Random(seed), asked_s)
    honoured_s = min(asked_s, BACKOFF.retry_after_cap_s)
    assert honoured_s <= delay_s <= honoured_s + BACKOFF.first_s


def test_senseless_retry_after_is_as_none() -> None:
    for asked_s in (0.0, -5.0):
        assert BACKOFF.delay_s(0, random.Random(1), asked_s) <= 1
