"""Tests that need what is not there, run by `test_guards.py`. Not collected by itself."""

from __future__ import annotations

import pytest


@pytest.mark.mount
def test_mount() -> None:
    pass


@pytest.mark.server("apache")
def test_apache() -> None:
    pass


@pytest.mark.server("standin")
def test_standin() -> None:
    pass


@pytest.mark.real_nextcloud
def test_real_account() -> None:
    pass
