"""What every test stands on: see `tests.tooling.guards` for the rules it keeps tests to."""

from hypothesis import settings

from tests.tooling.needs import in_ci

pytest_plugins = ["tests.tooling.guards"]

if in_ci():
    settings.load_profile(
        "ci"
    )  # Hypothesis looks for CI itself, which scripts/test hides: the same examples each time
