"""Random histories of two clients over real connections, with requests that fail on the wire and restarts.

What the engine makes of answers is found in memory and in virtual time, by thousands (`test_simulation`); these few are
for what lies between it and a server. CLOUDFS_TEST_HTTP_HISTORIES says how many, from CLOUDFS_TEST_HTTP_FROM on.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.model.histories import wider
from tests.model.over_http import patched, play_over_http
from tests.tooling.needs import in_ci

pytestmark = [
    # What is logged as an error is a failure of the history.
    pytest.mark.expect_log(".*", optional=True),
    # trio keeps the threads of an engine that is gone for some seconds, and their connections to its databases.
    pytest.mark.shared_engine,
]

_COUNT = int(os.environ.get("CLOUDFS_TEST_HTTP_HISTORIES", "16" if in_ci() else "4"))
_FIRST = int(os.environ.get("CLOUDFS_TEST_HTTP_FROM", "0"))
_AT_ONCE = 4


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(_FIRST, _FIRST + _COUNT, _AT_ONCE))
def test_histories_over_http(tmp_path: Path, first: int) -> None:
    with patched():
        for seed in range(first, first + _AT_ONCE):
            chance = random.Random(f"{seed} http")
            history = [wider(chance.choice) for _ in range(chance.choice((6, 12, 24)))]
            try:
                play_over_http(tmp_path / str(seed), history, seed)
            except BaseException as error:
                error.add_note(f"history {seed}: {history}")
                raise
