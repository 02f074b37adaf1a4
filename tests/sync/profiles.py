"""How hard the random tests of this folder try: fixed examples in CI, new ones at a desk."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

from tests.tooling.needs import in_ci

__all__ = ["thorough"]


def thorough(max_examples: int) -> settings:
    """Return settings for `max_examples`; CLOUDFS_TEST_EXAMPLES multiplies them (a night's search: --timeout=0)."""
    return settings(
        max_examples=max_examples * int(os.environ.get("CLOUDFS_TEST_EXAMPLES", "1")),
        deadline=None,
        derandomize=in_ci(),
        # The store is one for all examples; each example runs in a transaction that is rolled back.
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
