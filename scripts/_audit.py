"""Asks whether anything that is locked has a published weakness; says so when nobody can be asked.

The answer changes without a change here, so what cannot be asked is no failure: the exit code is 1 only for a weakness.
An answer holds for the day, as long as nothing else is locked: `scripts/check` is called often.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["LOCKED", "ask", "main", "verdict"]

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 20
LOCKED = ROOT / "requirements/run.txt"
"""What reaches people's machines; tools that only build and test are not asked for."""


def main() -> int:
    """Ask, or repeat what was answered today."""
    noted = Path(sys.prefix) / ".audit"
    stamp = f"{time.strftime('%F')} {hashlib.sha256(LOCKED.read_bytes()).hexdigest()}\n"
    if noted.exists() and noted.read_text().startswith(stamp):
        print(noted.read_text().removeprefix(stamp))
        return 0
    code, sentence = verdict(*ask())
    print(sentence)
    if code == 0:
        noted.write_text(stamp + sentence)
    return code


def ask() -> tuple[str, str]:
    """Return what pip-audit answers, and why it does not."""
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner=off", "--format=json", "--timeout=5"]
    command += ["--disable-pip", "--require-hashes", f"--requirement={LOCKED}"]
    try:
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        return "", f"no answer within {PATIENCE_S} seconds"
    return done.stdout, (done.stderr.strip().splitlines() or [""])[-1]


def verdict(output: str, why: str = "") -> tuple[int, str]:
    """Judge what pip-audit said: the exit code, and a sentence (or one for each weakness).

    `why` tells more of no answer: a pip-audit that is broken is not to be taken for a machine without a network.
    """
    try:
        parts: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        told = f" ({why[:200]})" if why else ""
        return 0, f"skipped: nobody can be asked for published weaknesses from here{told}"
    # An index without such answers knows nothing of any package: pip-audit passes over each, and is content.
    asked = [part for part in parts if "vulns" in part]
    if not asked:
        return 0, "skipped: this machine's package index tells no published weaknesses"
    found = [
        f"{part['name']} {part['version']}: {weakness['id']}, mended in "
        f"{', '.join(weakness['fix_versions']) or 'no version yet'}"
        for part in asked
        for weakness in part["vulns"]
    ]
    if not found:
        return 0, f"ok: nothing published against {len(asked)} of {len(parts)} packages"
    return 1, "\n".join([*found, "`scripts/lock --upgrade` takes what is mended."])


if __name__ == "__main__":
    sys.exit(main())
