"""What is made of pip-audit's answers: above all, that no answer is not taken for a good one."""

from __future__ import annotations

import json
from collections.abc import Mapping

from scripts._audit import verdict


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
