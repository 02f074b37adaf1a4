"""Plays random histories by seed, as many as there is time for. Profile and seed name a history and its schedule.

scripts/simulate --seeds 5000 --profile two-faults
scripts/simulate --seconds 600                                 every profile in turn, until the time is over
scripts/simulate --seed 17 --profile two-faults --trace        one again, with all that happens
scripts/simulate --slices 1                                    each slice of what is long is of one file or folder
"""

from __future__ import annotations

import argparse
import gc
import itertools
import multiprocessing
import os
import re
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from types import FrameType

from tests.model.operations import Operation
from tests.model.profiles import PROFILES, Profile, Told, faulty_remote, silent
from tests.model.schedule import Digest
from tests.model.scratch import scratch
from tests.model.slicing import sliced

__all__ = ["Failure", "attempt", "faulty_remote", "run_seeds", "shrink"]

_PART = 20
"""Seeds that a process is given at once."""
_LONGEST_S = 120
"""Real time after which a history counts as one that never ends: usual ones take a twentieth of a second."""
_SHRINK_S = 120.0


@dataclass(frozen=True)
class Failure:
    """A seed whose history broke a promise."""

    profile: str
    seed: int
    trouble: str

    @property
    def reason(self) -> str:
        """The exception, in one line."""
        return self.trouble.strip().splitlines()[-1]

    @property
    def sort(self) -> str:
        """What failures of one cause have in common, mostly."""
        return _sort_of(self.trouble)


@dataclass
class Tally:
    """What was played so far."""

    played: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)


def attempt(profile: Profile, history: list[Operation], seed: int, told: Told = silent) -> str | None:
    """Play one history; return the traceback if it fails."""
    digest = Digest()
    with scratch() as folder:
        try:
            profile.play(folder, history, seed, told, () if told is silent else (digest,))
        except Exception:  # noqa: BLE001  # whatever it is, it is the finding
            return traceback.format_exc()
        finally:
            told(f"schedule: {digest}")
    return None


def shrink(profile: Profile, history: list[Operation], seed: int, seconds: float) -> list[Operation]:
    """Leave operations out while the history still fails in the same way, and while there is time."""
    until = time.monotonic() + seconds
    wanted = _sort_of(attempt(profile, history, seed) or "")
    size = max(len(history) // 2, 1)
    while True:
        at, before = 0, len(history)
        while at < len(history):
            if time.monotonic() > until:
                return history
            shorter = history[:at] + history[at + size :]
            trouble = attempt(profile, shorter, seed)
            if trouble and _sort_of(trouble) == wanted:
                history = shorter
            else:
                at += size
        if size == 1 and len(history) == before:
            return history
        size = max(size // 2, 1)


def run_seeds(name: str, seeds: Iterable[int], seconds: float = float("inf")) -> tuple[int, list[Failure]]:
    """Play seeds of a profile until the time is over; return how many, and those that failed."""
    until, failures, played = time.monotonic() + seconds, [], 0
    profile = PROFILES[name]
    for seed in seeds:
        if time.monotonic() > until:
            break
        played += 1
        trouble = attempt(profile, profile.history(seed), seed)
        if trouble:
            failures.append(Failure(name, seed, trouble))
    return played, failures


def _sort_of(trouble: str) -> str:
    lines = trouble.strip().splitlines()
    last = lines[-1] if lines else ""
    return re.sub(r"[\d']+", "", re.sub(r"\{.*|\[.*|\(.*|b'.*", "", last))[:60]


# Many at once


def _begin() -> None:
    def too_long(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError("a history does not end")

    signal.signal(signal.SIGALRM, too_long)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.collect()
    gc.freeze()


def _play_part(part: tuple[str, list[int]]) -> tuple[str, int, list[Failure]]:
    name, seeds = part
    played, failures = 0, []
    for seed in seeds:
        signal.alarm(_LONGEST_S)
        count, failed = run_seeds(name, [seed])
        signal.alarm(0)
        played += count
        failures += failed
    return name, played, failures


def _parts(names: list[str], first: int, count: int | None) -> Iterator[tuple[str, list[int]]]:
    last = sys.maxsize if count is None else first + count
    for start in itertools.count(first, _PART):
        if start >= last:
            return
        for name in names:
            yield name, list(range(start, min(start + _PART, last)))


def _play_many(options: argparse.Namespace, names: list[str]) -> Tally:
    tally = Tally()
    until = float("inf") if options.seconds is None else time.monotonic() + options.seconds
    parts = _parts(names, options.first, options.seeds)
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(options.jobs, mp_context=context, initializer=_begin) as pool:
        running: set[Future[tuple[str, int, list[Failure]]]] = set()
        while True:
            while len(running) < options.jobs * 2 and time.monotonic() < until:
                part = next(parts, None)
                if part is None:
                    break
                running.add(pool.submit(_play_part, part))
            if not running:
                return tally
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                name, played, failures = future.result()
                tally.played[name] += played
                tally.failures += failures
                for failure in failures:
                    print(f"{failure.profile} {failure.seed}: {failure.reason[:300]}", flush=True)


def _report(tally: Tally, took_s: float, shrunk: int) -> None:
    by_sort: dict[tuple[str, str], list[Failure]] = {}
    for failure in tally.failures:
        by_sort.setdefault((failure.profile, failure.sort), []).append(failure)
    for (name, _), failures in list(by_sort.items())[:shrunk]:
        first = min(failures, key=lambda it: (len(PROFILES[name].history(it.seed)), it.seed))
        print(f"\n{len(failures)} of {name}, as seed {first.seed}:")
        _tell_shrunk(name, first.seed)
    for name, played in sorted(tally.played.items()):
        print(f"{name}: {played} histories, {sum(it.profile == name for it in tally.failures)} failed")
    total = sum(tally.played.values())
    print(f"{total} histories in {took_s:.0f} s, {total / max(took_s, 0.001) * 60:.0f} a minute")


def _tell_shrunk(name: str, seed: int) -> None:
    profile = PROFILES[name]
    history = profile.history(seed)
    shorter = shrink(profile, history, seed, _SHRINK_S)
    print(f"shrunk from {len(history)} operations to {len(shorter)}:")
    print("    [", *(f"        {operation}," for operation in shorter), "    ]", sep="\n")
    print((attempt(profile, shorter, seed) or "it passes by now").strip())
    print(f"again: scripts/simulate --profile {name} --seed {seed} --trace, with the same --slices")


# One again


def _replay(name: str, seed: int, *, trace: bool) -> int:
    profile = PROFILES[name]
    trouble = attempt(profile, profile.history(seed), seed, print if trace else silent)
    if trouble is None:
        print(f"{name} {seed}: passes")
        return 0
    print(trouble.strip())
    _tell_shrunk(name, seed)
    return 1


def main() -> int:
    """Run from the command line; 1 when anything failed."""
    parser = argparse.ArgumentParser(
        prog="scripts/simulate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", choices=[*PROFILES, "all"], default="all")
    parser.add_argument("--seeds", type=int, help="how many seeds of each profile (1000 without --seconds)")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    parser.add_argument("--seconds", type=float, help="stop after so long")
    parser.add_argument(
        "--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes at once (one for each core)"
    )
    parser.add_argument("--shrink", type=int, default=5, help="how many sorts of failures to shrink")
    parser.add_argument("--slices", type=int, help="how large they are; else as they are in large folders")
    parser.add_argument("--seed", type=int, help="play this one again, in the profiles asked for")
    parser.add_argument("--trace", action="store_true", help="with --seed: print every operation and request")
    options = parser.parse_args()
    with sliced(options.slices):
        return _simulate(options)


def _simulate(options: argparse.Namespace) -> int:
    names = list(PROFILES) if options.profile == "all" else [options.profile]
    if options.seed is not None:
        return max(_replay(name, options.seed, trace=options.trace) for name in names)
    if options.seeds is None and options.seconds is None:
        options.seeds = 1000
    began = time.monotonic()
    tally = _play_many(options, names)
    _report(tally, time.monotonic() - began, options.shrink)
    return bool(tally.failures)


if __name__ == "__main__":
    sys.exit(main())
