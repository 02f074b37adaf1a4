"""What is made of pip-audit's answers: above all, that no answer is not taken for a good one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from scripts._audit import ROOT, verdict


def answer(*parts: Mapping[str, object]) -> str:
    return json.dumps({"dependencies": list(parts), "fixes": []})


SOUND = {"name": "idna", "version": "3.20", "vulns": []}
UNKNOWN = {"name": "segno", "skip_reason": "Dependency not found on PyPI and could not be audited: segno"}


def test_nothing_published() -> None:
    assert verdict(answer(SOUND, UNKNOWN)) == (0, "ok: nothing published against 1 of 2 packages")


def test_a_weakness_fails_and_is_named() -> None:
    weak = {"name": "h11", "version": "0.13", "vulns": [{"id": "CVE-1", "fix_versions": ["0.16.0"]}]}
    hopeless = {"name": "x", "version": "1", "vulns": [{"id": "CVE-2", "fix_versions": []}]}
    code, sentence = verdict(answer(SOUND, weak, hopeless))
    assert code == 1
    assert sentence.splitlines()[:2] == [
        "h11 0.13: CVE-1, mended in 0.16.0",
        "x 1: CVE-2, mended in no version yet",
    ]


def test_an_index_that_knows_no_weaknesses_is_no_good_answer() -> None:
    assert verdict(answer(UNKNOWN, UNKNOWN))[1].startswith("skipped: ")


def test_no_answer_is_said() -> None:
    for output in ("", "ConnectionError: …", "[]", "{}"):
        assert verdict(output) == (0, "skipped: nobody can be asked for published weaknesses from here")
    assert verdict("", "no route to host")[1].endswith("from here (no route to host)")


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Stand for a checkout in which all else is well, and pip-audit answers what `answer` holds."""
    place = tmp_path / "checkout"
    (place / "requirements").mkdir(parents=True)
    shutil.copy(ROOT / "requirements/run.txt", place / "requirements")
    for name in ("check", "_audit.py"):
        (place / "scripts").mkdir(exist_ok=True)
        shutil.copy(ROOT / "scripts" / name, place / "scripts")
    for name in ("scripts/setup", ".venv/bin/ruff", ".venv/bin/mypy", ".venv/bin/lint-imports"):
        write_program(place / name, "#!/bin/sh\n")
    own = f"import runpy, sys; sys.prefix = {str(tmp_path)!r}; sys.argv = [''];"
    run = f"{own} runpy.run_module('scripts._audit', run_name='__main__')"
    write_program(place / ".venv/bin/python", f'#!/bin/sh\nexec {sys.executable} -c "{run}"\n')
    write_program(
        place / "pip_audit.py",
        f"import pathlib, sys\nassert '--requirement={place}/requirements/run.txt' in sys.argv\n"
        f"sys.stdout.write(pathlib.Path({str(place)!r}, 'answer').read_text())\nsys.exit('no route to host')\n",
    )
    return place


@pytest.mark.parametrize(
    ("told", "code", "said"),
    [
        (answer(SOUND), 0, "check: audit   ok"),
        (
            answer({"name": "h11", "version": "0.13", "vulns": [{"id": "CVE-1", "fix_versions": []}]}),
            1,
            "h11 0.13: CVE-1",
        ),
        (
            "",
            0,
            "check: audit   skipped: nobody can be asked for published weaknesses from here (no route to host)",
        ),
    ],
    ids=["sound", "weak", "no answer"],
)
def test_the_checks_fail_or_pass_by_what_is_answered(checkout: Path, told: str, code: int, said: str) -> None:
    (checkout / "answer").write_text(told)
    environ = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [checkout / "scripts/check"], cwd=checkout, env=environ, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (code, "")
    assert said in done.stdout
    assert ("check: audit   FAILED" in done.stdout) is (code == 1)
