"""Some of `simulate`, always of the same seeds, and at a desk a few new ones; more are for `scripts/simulate`."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from cloudfs.blocks.sealing import Cipher, Keys
from tests.model.profiles import PROFILES
from tests.model.reach import counted
from tests.model.simulate import Failure, attempt, run_seeds, shrink
from tests.model.slicing import sliced
from tests.model.world import World
from tests.tooling.needs import in_ci

# What is logged as an error is a failure of the history.
pytestmark = pytest.mark.expect_log(".*", optional=True)

_SEEDS = 400 if in_ci() else 80
"""Of each profile, as many of them as there is time for: two minutes for all, a quarter of it in slices of one."""
_SECONDS = 90.0 / len(PROFILES) if in_ci() else 3.0
_NEW_SEEDS = 10


def _told(failures: list[Failure]) -> str:
    return "".join(
        f"scripts/simulate --profile {it.profile} --seed {it.seed}\n{it.trouble}\n" for it in failures
    )


@pytest.mark.parametrize("name", PROFILES)
def test_simulation(name: str) -> None:
    _, failures = run_seeds(name, range(_SEEDS), _SECONDS)
    assert not failures, _told(failures)


@pytest.mark.parametrize("name", PROFILES)
def test_simulation_with_everything_done_one_by_one(name: str) -> None:
    """What is done in slices of hundreds in large folders: after each file and folder something else may happen."""
    with sliced(1):
        _, failures = run_seeds(name, range(_SEEDS), _SECONDS / 3)
    assert not failures, "--slices 1: " + _told(failures)


def test_the_histories_come_to_what_is_there_for_much_at_once() -> None:
    """Done one by one: without that, hardly any would. The first ones do, as they are drawn today."""
    later = ((name, seed) for seed in range(100) for name in ("two-bulk", "two-faults"))
    with counted() as ways, sliced(1):
        for name, seed in (("two-bulk", 18), ("two-bulk", 132), ("two-faults", 33), *later):
            _, failures = run_seeds(name, [seed])
            assert not failures, _told(failures)
            if all(ways.values()):
                return
    raise AssertionError(f"never met: {[way for way, count in ways.items() if not count]}")


@pytest.mark.parametrize("name", ["two-faults", "tails-two"])
def test_simulation_of_an_encrypted_account(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "keys", Keys(bytes(32), Cipher.AES))
    _, failures = run_seeds(name, range(_SEEDS), _SECONDS / 3)
    assert not failures, "encrypted: " + _told(failures)


@pytest.mark.skipif(in_ci(), reason="CI plays the same every time; new seeds are for a desk")
@pytest.mark.parametrize("name", PROFILES)
def test_simulation_of_seeds_never_seen(name: str) -> None:
    first = random.SystemRandom().randrange(10**6, 10**9)
    _, failures = run_seeds(name, range(first, first + _NEW_SEEDS))
    assert not failures, _told(failures)


def test_a_seed_plays_the_same_in_every_process() -> None:
    """Every operation, every request with its time and outcome, and every step of the scheduler."""
    first, second = (_replayed(hash_seed) for hash_seed in ("1", "77"))
    assert first == second
    here: list[str] = []
    for name, profile in reversed(PROFILES.items()):  # what was played before does not count
        lines: list[str] = []
        attempt(profile, profile.history(7), 7, lines.append)
        assert lines[-1].startswith("schedule: ")
        here = [*lines, f"{name} 7: passes", *here]
    assert here == first


def _replayed(hash_seed: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.model.simulate", "--seed", "7", "--trace"],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert not done.stderr, done.stderr
    return done.stdout.splitlines()


def test_a_failure_is_shrunk_to_what_it_takes() -> None:
    """With an engine that never sends, what is left is one change."""
    profile = PROFILES["alone"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cloudfs.sync.starting.Starter.free", lambda _self: 0)
        history = next(
            history
            for history in map(profile.history, range(100))
            if len(history) == 12 and attempt(profile, history, 3)
        )
        assert len(shrink(profile, history, 3, 60.0)) == 1
    assert attempt(profile, history, 3) is None
