"""A process that works on an account until it is killed: python -m tests.crash.doomed HOME URL SCENARIO.

Prints a line after each acknowledged step; the kill point is in the environment. Ends with 3 if it outlived it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

from tests.crash.scenarios import APPEND_BYTES, SCENARIOS
from tests.functional.stages import VfsStage
from tests.servers import StandIn


class _Elsewhere:
    """A server in another process: only its address is needed."""

    def __init__(self, url: str) -> None:
        self.url = url


def main(home: Path, url: str, name: str) -> None:
    """Carry out a scenario, then let the worker bring it to the server."""
    scenario, server = SCENARIOS[name], cast("StandIn", _Elsewhere(url))
    own: dict[str, Any] = {"append_bytes": APPEND_BYTES, **scenario.limits}
    stage = VfsStage(home, server, quiet_s=3600.0, listing_ttl_s=0.0, **own)
    for step in scenario.steps:
        step(stage.root())
        print("done", flush=True)  # what the test reads
    scenario.ending(stage)
    stage.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
    sys.exit(3)
