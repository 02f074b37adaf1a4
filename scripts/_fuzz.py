"""Runs the harnesses of tests/fuzz under atheris, one process for each: libFuzzer ends its process."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / ".fuzz"
LONGEST_BYTES = 16 * 1024
PATIENCE_S = 10
MOST_MIB = 600
"""Of the process, most of it what tells which code was reached."""


def main() -> int:
    """Fuzz each parser that was named; the exit code is 1 where anything was found."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("parsers", nargs="*", metavar="PARSER")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--again", type=Path, metavar="FILE", help="one input, once")
    parser.add_argument("--within", action="store_true", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.within:
        _fuzz(wanted.parsers[0], wanted.seconds, wanted.again)
        return 0
    return max(_start(name, wanted) for name in wanted.parsers or _names())


def _start(name: str, wanted: argparse.Namespace) -> int:
    if name not in _names():
        sys.exit(f"scripts/fuzz: no parser {name}; there are {', '.join(_names())}")
    print(f"fuzz: {name}", flush=True)
    command = [sys.executable, "-m", "scripts._fuzz", name, "--within", f"--seconds={wanted.seconds}"]
    if wanted.again is not None:
        command.append(f"--again={wanted.again}")
    found = subprocess.run(command, check=False).returncode != 0
    print(f"fuzz: {name}: {'FOUND something' if found else 'ok'}", flush=True)
    return int(found)


def _names() -> list[str]:
    return sorted(importlib.import_module("tests.fuzz.harnesses").HARNESSES)


def _fuzz(name: str, seconds: int, again: Path | None) -> None:
    atheris: Any = importlib.import_module("atheris")  # has no types, and is here only for who fuzzes
    # The package as a whole: what is in it already would not be told apart by its code.
    with atheris.instrument_imports(
        include=["cloudfs.remote", "cloudfs.paths"], enable_loader_override=False
    ):
        harness = importlib.import_module("tests.fuzz.harnesses").HARNESSES[name]
    corpus, found, words = KEPT / name, KEPT / f"found-{name}-", KEPT / f"{name}.words"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(harness.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    if harness.words:
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in harness.words))
    arguments = [
        sys.argv[0],
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST_BYTES}",
        f"-timeout={PATIENCE_S}",
        f"-rss_limit_mb={MOST_MIB}",
        f"-artifact_prefix={found}",
        "-print_final_stats=1",
        "-verbosity=1" if again else "-verbosity=0",
        *([f"-dict={words}"] if harness.words else []),
        str(again or corpus),
    ]
    atheris.Setup(arguments, harness)
    atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    sys.exit(main())
