"""One client alone: whatever programs do, the mount is the reference, and in the end the server is too.

The machine's rules are data (`operations`), because they have to await: a whole history runs in one `trio.run`,
and a failing one shrinks to a short list that can be pasted into `test_found`.
"""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.model.histories import an_operation, histories
from tests.model.operations import Operation
from tests.model.player import play
from tests.model.scratch import scratch

_SETTINGS = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@_SETTINGS
@given(history=histories(an_operation, longest=25), seed=st.integers(0, 2**16))
def test_one_client(history: list[Operation], seed: int) -> None:
    with scratch() as folder:
        play(folder, history, seed=seed)
