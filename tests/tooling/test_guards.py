"""The guards catch what breaks their rules, and nothing else. Samples run in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from lxml import etree

from tests.tooling import needs

SAMPLES = Path(__file__).parent
REPOSITORY = SAMPLES.parents[1]


@dataclass
class Outcome:
    """How a sample ended: passed, failure (in its body), error (before or after), skipped."""

    kind: str
    message: str = ""


def run_sample(name: str, folder: Path, *options: str) -> dict[str, Outcome]:
    """Run one file of samples with the project's own settings; return outcomes by test."""
    report = folder / f"{name}.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    command += [f"--basetemp={folder / name}", *options, str(SAMPLES / f"{name}.py")]
    subprocess.run(command, check=False, timeout=110, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    outcomes = {}
    for case in etree.parse(str(report)).iter("testcase"):
        result = next((child for child in case if child.tag in {"failure", "error", "skipped"}), None)
        outcomes[str(case.get("name"))] = (
            Outcome("passed")
            if result is None
            else Outcome(str(result.tag), f"{result.get('message')}\n{result.text}")
        )
    return outcomes


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    without = ["-m", "not mount"] if needs.fuse_problem() else []
    return run_sample("sample_guards", tmp_path_factory.mktemp("samples"), *without)


def test_honest_tests_pass(sampled: dict[str, Outcome]) -> None:
    kept = {name: outcome for name, outcome in sampled.items() if name.startswith("test_keeps_")}
    assert len(kept) >= 10
    assert {name: outcome for name, outcome in kept.items() if outcome.kind != "passed"} == {}


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("unexpected_warning", "logged without being expected: WARNING cloudfs.sample: disk gone"),
        ("expectation_unmet", "expected in the log, but nothing matched: never said"),
        ("descriptor", "descriptor left open: "),
        ("second_descriptor_on_one_target", "descriptor left open: /"),
        pytest.param("mount", "mount left over (now detached): ", marks=pytest.mark.mount),
        ("crash_in_a_daemons_log", "INFO cloudfs.daemon: mounted\nTraceback (most recent call last):\nOops"),
        *(
            pytest.param(name, complaint, marks=pytest.mark.mount)
            for name, complaint in [
                ("warning_of_a_daemon", "without being expected: WARNING cloudfs.sample: disk gone"),
                (
                    "warning_of_a_daemon_of_module",
                    "without being expected: WARNING cloudfs.sample: disk gone",
                ),
                ("descriptor_of_a_daemon", "/2.1 (deleted)"),
                ("descriptor_of_a_daemon_of_module", "left open by the daemon: "),
                ("staging_file_opened_twice", "/staging-1/1.1"),
            ]
        ),
    ],
)
def test_a_broken_rule_fails_the_test(name: str, complaint: str, sampled: dict[str, Outcome]) -> None:
    outcome = sampled[f"test_breaks_{name}"]
    assert outcome.kind == "error"
    assert complaint in outcome.message


def test_a_failed_test_is_not_blamed_for_what_it_left(sampled: dict[str, Outcome]) -> None:
    outcome = sampled["test_fails_by_itself"]
    assert outcome.kind == "failure"
    assert "ZeroDivisionError" in outcome.message


@pytest.mark.parametrize(("ci", "kind"), [("", "skipped"), ("true", "error")])
def test_what_the_machine_lacks_is_skipped_at_a_desk_and_fails_in_ci(
    ci: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = tmp_path / "nothing.py"
    nothing.write_text("from tests.tooling import needs\nneeds.find_program = lambda name: None\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{REPOSITORY}")
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("CLOUDFS_CI", "")
    monkeypatch.delenv("CLOUDFS_TEST_URL", raising=False)
    outcomes = run_sample("sample_needs", tmp_path, "-p", "nothing")
    assert {name: outcome.kind for name, outcome in outcomes.items()} == {
        "test_mount": kind,
        "test_apache": kind,
        "test_standin": "passed",
        "test_real_account": "skipped",
    }
