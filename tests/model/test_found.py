"""What the models found, shrunk: each was a failing history once, and its name says what went wrong."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio

from tests.model.fake_remote import FakeRemote, FaultKind
from tests.model.found import FOUND
from tests.model.operations import (
    Append,
    Close,
    Create,
    Drain,
    Exchange,
    Flush,
    Kill,
    Mkdir,
    Open,
    Operation,
    OtherDelete,
    OtherMove,
    OtherWrite,
    Refresh,
    Rename,
    Restart,
    Rewrite,
    Save,
    SaveByRename,
    Truncate,
    TruncateFile,
    Unlink,
    Wait,
    Write,
)
from tests.model.player import play
from tests.model.profiles import PROFILES, silent
from tests.model.simulate import faulty_remote
from tests.model.two_clients import play_two
from tests.model.virtual import run_virtually
from tests.model.world import World


def server_with(method: str, *kinds: FaultKind | None) -> FakeRemote:
    """Return a server that fails the next requests of one method."""
    remote = FakeRemote()
    remote.faults.next(method, kinds)
    return remote


def test_kill_after_cutting_a_flushed_file_leaves_the_old_or_the_new_size(tmp_path: Path) -> None:
    """The file was cut at once, its row said the old size: it read as zeros, or as damage."""
    play(tmp_path, [Save("b", 12), Open("b", 0, truncate=True), Kill()])


def test_kill_after_shortening_a_flushed_file(tmp_path: Path) -> None:
    play(tmp_path, [Save("b", 12), Open("b", 0), TruncateFile(0, 4), Append(0, 2), Kill()])


def test_bytes_that_a_kill_left_in_a_gap_are_not_uploaded(tmp_path: Path) -> None:
    """What had been written but not flushed lay in the staging file, outside of what the row knew."""
    before: list[Operation] = [Open("a", 0), Write(0, 12, 2), Flush(0), Write(0, 20, 5), Kill()]
    play(
        tmp_path,
        [*before, Open("a", 0), Write(0, 30, 1), Close(0)],
        remote=lambda: server_with("stream", *[FaultKind.REFUSE] * 6),
    )


def test_checksum_of_a_failed_upload_does_not_outlive_the_next_write(tmp_path: Path) -> None:
    """It was in the row still when the process died, and went up with other bytes."""
    play(
        tmp_path,
        [Save("b", 8), Wait(1.5), Open("b", 0), Write(0, 0, 8), Kill()],
        remote=lambda: server_with("put", FaultKind.REFUSE),
    )


def test_attempts_go_with_their_file(tmp_path: Path) -> None:
    play(
        tmp_path,
        [Save("b", 8), Wait(1.5), Unlink("b")],
        remote=lambda: server_with("put", FaultKind.REFUSE),
    )


def test_replacing_a_file_whose_upload_lost_its_reply_is_no_conflict(tmp_path: Path) -> None:
    """The server had our own earlier content under the name; the one that took its place did not know."""
    play(
        tmp_path,
        [Save("e", 5), Wait(1.5), SaveByRename("e", 12)],
        remote=lambda: server_with("put", FaultKind.LOSE_REPLY),
    )


def test_upload_begun_while_a_file_is_cut_and_closed_sends_what_it_has_then(tmp_path: Path) -> None:
    """The worker had read the row, and opened the staging file while a program changed both and was done."""
    history: list[Operation] = [Save("d/e2", 2), Restart(), Truncate("d/e2", 4)]
    for seed in range(6):
        play(tmp_path / str(seed), history, seed=seed)


def test_upload_begun_while_an_empty_file_gets_its_first_bytes(tmp_path: Path) -> None:
    """The row named the new layer already, the content did not yet: two contents for one version."""
    history: list[Operation] = [Create("e", 0), Save("d/a", 1), Restart(), Truncate("e", 8)]
    for seed in range(6):
        play(tmp_path / str(seed), history, seed=seed)


def test_reader_of_a_partly_written_file_is_not_sent_away_by_its_upload(tmp_path: Path) -> None:
    """The upload replaced the version below while the reader fetched from it: ESTALE, though all bytes were here."""

    async def read_after(delay_s: float) -> bytes:
        async with World(tmp_path / f"{delay_s}" / "0", FakeRemote(latency_s=1.0)) as world:
            world.remote.other.write("/a", b"0123456789")
            await world.fs.setattr((await world.lookup("a")).ino, size=3)
            await trio.sleep(delay_s)
            return await world.read_file("a")

    for tenths in range(10, 50, 4):
        assert run_virtually(partial(read_after, tenths / 10), seed=0) == b"012"


def test_file_replaced_during_its_failing_upload_leaves_nothing(tmp_path: Path) -> None:
    """The upload held the unlinked file, and nobody looked after it when it let go."""
    history: list[Operation] = [SaveByRename("d/a", 12, "new~"), Restart(), SaveByRename("d/a", 1)]
    play(tmp_path, history, seed=1329, remote=lambda: faulty_remote(1329))


def test_exchange_after_a_rename_that_lost_its_reply_is_no_conflict(tmp_path: Path) -> None:
    """The other file's target was taken by a file of ours that the server had already moved there."""
    play(
        tmp_path,
        [Rename("a", "e"), Wait(1.5), Exchange("e", "d/b")],
        remote=lambda: server_with("move", FaultKind.LOSE_REPLY),
    )


@pytest.mark.parametrize(
    "others",
    [
        pytest.param([OtherWrite("a", 5)], id="written"),
        pytest.param([OtherDelete("a")], id="deleted"),
        pytest.param([OtherMove("a", "d/a")], id="moved"),
    ],
)
def test_bytes_written_to_a_file_that_another_client_replaced_while_it_was_open_get_a_name(
    tmp_path: Path, others: list[Operation]
) -> None:
    """The open file had lost its name to the listing: what was written to it then went with the handle."""
    play_two(tmp_path, [Open("a", 0), *others, Refresh(), Rewrite(0, 3), Close(0)], remote=FakeRemote())


def test_bytes_written_to_a_file_whose_folder_was_deleted_while_it_was_open_get_a_name(
    tmp_path: Path,
) -> None:
    play_two(
        tmp_path, [Open("d/b", 0), OtherDelete("d"), Refresh(), Rewrite(0, 3), Close(0)], remote=FakeRemote()
    )


@pytest.mark.parametrize(
    "history",
    [
        pytest.param([OtherDelete("d/b"), Exchange("d/e", "d/b")], id="exchange"),
        pytest.param([OtherMove("a", "d/e/a"), Rename("a", "d/b")], id="rename"),
        pytest.param([OtherDelete("d/e"), Save("d/e/a", 5)], id="create in a deleted folder"),
    ],
)
def test_step_whose_object_is_gone_is_planned_anew(tmp_path: Path, history: list[Operation]) -> None:
    """The listing that was to tell left out just the names that the step itself was changing: it failed for ever."""
    play_two(tmp_path, history, remote=FakeRemote())


@pytest.mark.parametrize(
    "others",
    [
        pytest.param([OtherMove("d", "b")], id="moved"),
        pytest.param([OtherMove("d", "b"), OtherDelete("b")], id="deleted"),
        pytest.param([OtherWrite("d/b", 2)], id="written"),
    ],
)
def test_unread_file_renamed_to_a_local_only_name_and_changed_by_another_client(
    tmp_path: Path, others: list[Operation]
) -> None:
    """Its bytes could no longer be fetched, and it was tried for ever."""
    play_two(tmp_path, [Rename("d/b", "a~"), *others], remote=FakeRemote())


def test_waiting_for_the_server_ends_when_a_listing_settles_what_was_left(tmp_path: Path) -> None:
    """Only steps woke whoever waited; the last of the work had gone with a file that another client deleted."""
    history: list[Operation] = [OtherDelete("a"), Rename("a", "a~")]
    for seed in range(6):
        play_two(tmp_path / str(seed), history, seed=seed, remote=faulty_remote(seed))


def test_file_that_comes_into_a_folder_on_its_way_to_a_local_only_name(tmp_path: Path) -> None:
    """Another client's file became known between keeping the others and deleting the folder on the server."""
    history: list[Operation] = [Rename("d/e", "a~"), OtherWrite("d/e/a", 2, checksum=False), Refresh()]
    for seed in range(6):
        play_two(tmp_path / str(seed), history, seed=seed, remote=FakeRemote(latency_s=0.1))


def test_file_of_another_client_under_a_folder_that_was_to_be_kept_here(tmp_path: Path) -> None:
    """The folder was not as known, so its files were deleted one by one: also one that was not kept yet."""
    history: list[Operation] = [Wait(6.0), Rename("d/e", "a~"), Kill(), OtherWrite("d/e/a", 5)]
    for seed in (1, 2, 20001):
        play_two(tmp_path / str(seed), history, seed=seed, remote=faulty_remote(seed))


def test_file_written_and_moved_here_and_written_by_another_client(tmp_path: Path) -> None:
    """The move, which had to come first, was refused for ever."""
    play_two(tmp_path, [Rename("d/b", "e"), Save("e", 12), OtherWrite("d/b", 5)], remote=FakeRemote())


def test_file_renamed_over_one_whose_upload_is_under_way_stays_on_the_server(tmp_path: Path) -> None:
    """Both claimed the place on the server: the removal of the replaced one removed the other's content."""
    history: list[Operation] = [
        Save("d/b", 5),
        Save("d/e/a", 1),
        Open("d/e/a", 1, truncate=True),
        Kill(),
        Create("e", 0),
        Rename("e", "d/e/a"),
    ]
    play(tmp_path, history, seed=70261, remote=lambda: faulty_remote(70261))


def test_folder_exchanged_after_its_mkcol_lost_its_reply(tmp_path: Path) -> None:
    """The file that took its name met the folder on the server, which nobody knew to be ours: a conflicted copy."""
    history: list[Operation] = [
        Rename("d/e", "e"),
        Mkdir("b"),
        Wait(1.5),
        Save("d/e", 5),
        Exchange("d/e", "b"),
    ]
    play(tmp_path, history, seed=80183, remote=lambda: faulty_remote(80183))


def test_new_file_renamed_after_its_upload_lost_its_reply(tmp_path: Path) -> None:
    """What had arrived under the old name came back as a foreign file."""
    history: list[Operation] = [Save("a", 1), Save("d/e/a", 1), Kill(), Rename("d/e/a", "d/b")]
    play(tmp_path, history, seed=71, remote=lambda: faulty_remote(71))


def test_folder_renamed_to_a_local_only_name_after_its_delete_lost_its_reply(tmp_path: Path) -> None:
    """It was gone from the server as we had asked, and a listing took it out of the mount, too."""
    history: list[Operation] = [Rename("d/e", "a~"), Truncate("a", 1), Drain()]
    PROFILES["faults"].play(tmp_path, history, 359, silent, ())


def test_a_name_that_another_client_gave_to_the_folder_above(tmp_path: Path) -> None:
    """The file waited for its folder, whose new name it had here, and the folder for the name: for ever."""
    play_two(tmp_path, [OtherMove("d", "b"), Rename("d/b", "b")], remote=FakeRemote())


def test_a_name_that_another_client_gave_to_a_folder_that_was_exchanged_here(tmp_path: Path) -> None:
    """As above, with a name of this machine alone in it."""
    history: list[Operation] = [Save("a~", 5), Save("d/a", 2), OtherMove("d/e", "d/a"), Exchange("a~", "d")]
    PROFILES["two-faults"].play(tmp_path, history, 238, silent, ())


@pytest.mark.expect_log(".*", optional=True)  # what is logged as an error is a failure of the history
@pytest.mark.parametrize("what", FOUND)
def test_history_that_failed_once(tmp_path: Path, what: str) -> None:
    """Under the circumstances that it failed in, and some others."""
    found = FOUND[what]
    for seed in (found.seed, *range(3)):
        PROFILES[found.profile].play(tmp_path / str(seed), found.history, seed)
