"""When the disappearance of much at once is believed, and when somebody is asked first."""

from __future__ import annotations

import pytest

from cloudfs.metadata.guard import vanishes_too_much


@pytest.mark.parametrize(
    ("count", "known", "emptied", "asks"),
    [
        (0, 0, 0, False),
        (1, 1, 0, False),  # a healthy server's single 404
        (1, 5000, 0, False),
        (100, 100, 0, False),
        (101, 201, 0, True),
        (101, 202, 0, False),  # half, and not more
        (101, 10_000, 0, False),
        (5_000, 10_000, 0, False),
        (5_001, 10_000, 0, True),
        (10, 10, 10, False),  # a handful
        (11, 11, 11, True),  # the root is empty
        (11, 10_000, 11, True),  # whatever is known elsewhere
    ],
)
def test_what_is_too_much(count: int, known: int, emptied: int, *, asks: bool) -> None:
    assert vanishes_too_much(count, known, limit=100, emptied=emptied) == asks


@pytest.mark.parametrize(("count", "emptied"), [(1, 0), (5000, 0), (5000, 20)])
def test_zero_turns_it_off(count: int, emptied: int) -> None:
    assert not vanishes_too_much(count, count, limit=0, emptied=emptied)


@pytest.mark.parametrize("limit", [0, 100])
def test_of_a_server_that_was_set_back_nothing_is_believed(limit: int) -> None:
    assert vanishes_too_much(1, 10_000, limit=limit, distrusted=True)
    assert not vanishes_too_much(0, 10_000, limit=limit, distrusted=True)


def test_the_limit_is_the_users() -> None:
    assert vanishes_too_much(6, 10, limit=5)
    assert not vanishes_too_much(150, 200, limit=150)
