"""A short soak on the stand-in, and one on a real Nextcloud; scripts/soak does the same for longer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conformance.conftest import real_account
from tests.soak.__main__ import stand_in
from tests.soak.course import Account, Plan, Report, run

pytestmark = [
    pytest.mark.mount,
    pytest.mark.shared_engine,
    pytest.mark.slow,
    # What a failing network and kills make daemons say is no subject here; crashes are, and the run looks for them.
    pytest.mark.expect_log("", optional=True),
]

SEEDS = os.environ.get("CLOUDFS_TEST_SOAK_SEEDS", "1").split()
REAL_S = float(os.environ.get("CLOUDFS_TEST_SOAK_SECONDS", "60"))


def passed(report: Report) -> None:
    """Nothing may be wrong, and everybody has to have taken part."""
    assert not report.faults, str(report)
    assert {client["who"] for client in report.clients} == {"A", "B", "C"}
    assert all(client["done"] for client in report.clients), str(report)
    assert report.hits


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_short_one(tmp_path: Path, seed: str) -> None:
    """Without kills: tests/crash has those."""
    plan = Plan(seed, 8.0, encrypt=True, pace_s=0.2, haste=4.0)
    with stand_in() as account:
        passed(run(plan, account, tmp_path))


@pytest.mark.real_nextcloud
@pytest.mark.timeout(900 + 2 * REAL_S)
def test_on_a_real_nextcloud(tmp_path: Path) -> None:
    with real_account() as target:
        account = Account(target.root_url.rstrip("/"), target.user, target.password)
        report = run(Plan("real", REAL_S, kill=True, encrypt=True), account, tmp_path)
    passed(report)
    assert report.kills
