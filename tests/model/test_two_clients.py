"""Two clients and a bad line: both sides converge, and no content is lost. `two_clients` says what that means."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.model.fake_remote import FakeRemote
from tests.model.histories import histories, of_two_clients
from tests.model.operations import Operation
from tests.model.scratch import scratch
from tests.model.simulate import faulty_remote
from tests.model.two_clients import play_two

_SETTINGS = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@_SETTINGS
@given(history=histories(of_two_clients, longest=20), seed=st.integers(0, 2**16))
def test_two_clients(history: list[Operation], seed: int) -> None:
    with scratch() as folder:
        play_two(folder, history, seed=seed, remote=FakeRemote(latency_s=0.1))


@_SETTINGS
@given(history=histories(of_two_clients, longest=20), seed=st.integers(0, 2**16))
def test_two_clients_on_a_bad_line(history: list[Operation], seed: int) -> None:
    with scratch() as folder:
        play_two(folder, history, seed=seed, remote=faulty_remote(seed))
