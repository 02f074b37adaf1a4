"""Kinds of histories: what is drawn from a seed, on which server and line, and who judges.

INVARIANT: the profile's name and the seed decide everything.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import trio

from cloudfs.remote.protocol import Features
from cloudfs.sync.appending import FROM_BYTES
from tests.model.account import Account
from tests.model.disks import CutWorld, FullWorld
from tests.model.fake_remote import NEXTCLOUD, FakeRemote, now_s
from tests.model.faults import DOUBTFUL, WITH_LATE, WITHOUT_LATE, FaultKind, FaultPlan
from tests.model.histories import (
    Choose,
    answering,
    breaking,
    deciding,
    doubtful,
    dying,
    growing,
    growing_beside,
    offline,
    on_two_mounts,
    pushed,
    rough,
    same_second,
    unpacking,
    unpacking_beside,
    wider,
)
from tests.model.operations import Operation, Wait
from tests.model.other_client import OTHERS
from tests.model.player import play
from tests.model.push_server import PushLine
from tests.model.rules import Rules
from tests.model.two_clients import play_two
from tests.model.two_mounts import play_mounts
from tests.model.world import World
from tests.sync.plain_remote import PlainRemote

__all__ = ["PROFILES", "Profile", "Told", "faulty_remote", "silent"]

Told = Callable[[str], None]

_DEADLINE_S = 15.0
_NOTICED_S = 900.0
"""Beside messages the account is looked at each five minutes; and a request then may be an unlucky one."""
_TOLD_S = 60.0
"""A message may be late by half of that."""
_POLLED_S = 120.0
_PUSH_URL = "wss://cloud.example/push/ws"
_CLOCKS_S = (0, 0, 0, -7200, 5400, 86_400)
"""How wrong the server's clock is."""


_PLAIN = Features(name="WebDAV in memory", depth_infinity=True)
"""As wsgidav and rclone: a tree is told of in one answer."""


def silent(_line: str) -> None:
    """Keep no trace."""


@dataclass(frozen=True)
class _Stage:
    """Where a history is played."""

    folder: Path
    seed: int
    told: Told
    instruments: Sequence[trio.abc.Instrument]

    def chance(self, what: str) -> random.Random:
        """Return a generator of this seed for one purpose: others do not shift what it draws."""
        return random.Random(f"{self.seed} {what}")

    @property
    def told_of_all(self) -> bool:
        """Whether no message of a push server is lost."""
        return self.chance("whole").random() < 0.5

    def noticed_within_s(self, *, push: bool) -> float:
        """Return how soon what changes on the server has to be shown."""
        if not push:
            return _POLLED_S
        return _TOLD_S if self.told_of_all else _NOTICED_S

    def rules(
        self,
        *,
        offline_first: bool = False,
        strict: bool = True,
        together: int = 4,
        append_bytes: int = FROM_BYTES,
        held_from: int | None = None,
        noticed_within_s: float | None = None,
    ) -> Rules:
        return Rules(
            deadline_s=_DEADLINE_S,
            offline_first=offline_first,
            slow_disk=self.chance("disk").random() < 0.3,
            together=together,
            append_bytes=append_bytes,
            held_from=held_from,
            noticed_within_s=noticed_within_s,
            strict=strict,
        )

    def server(
        self,
        probabilities: Sequence[float],
        kinds: tuple[FaultKind, ...],
        *,
        lingers: bool = False,
        in_order: bool = False,
        bulk: bool = False,
        push: bool = False,
        plain: bool = False,
        line: str = "line",
    ) -> FakeRemote:
        """`line`: another one, with another name, has other faults."""
        chance, clock_s = self.chance(line), self.chance("clock").choice(_CLOCKS_S)
        faults = FaultPlan(
            random.Random(chance.random()), probability=chance.choice(probabilities), kinds=kinds
        )
        features = msgspec.structs.replace(NEXTCLOUD, bulk=bulk, push_url=_PUSH_URL if push else "")
        server = (PlainRemote if plain else FakeRemote)(
            features=_PLAIN if plain else features,
            faults=faults,
            latency_s=chance.choice((0.0, 0.1, 1.0)),
            truncating=lingers and chance.random() < 0.3,
            lingers=lingers,
            in_order=in_order,
            chance=random.Random(chance.random()),
            account=Account(lambda: now_s() + clock_s, sticky=not plain, plain=plain),
            clock_skew_s=clock_s - chance.random(),
            trace=self.told,
        )
        if push:
            chance = self.chance(f"messages of the {line}")
            server.account.told = PushLine(server.ears, faults, chance, whole=self.told_of_all).tell
        return server

    def second_line(
        self, first: FakeRemote, probabilities: Sequence[float], kinds: tuple[FaultKind, ...]
    ) -> FakeRemote:
        """Return another client's way to the same server."""
        push = bool(first.features.push_url)
        server = self.server(probabilities, kinds, lingers=first.lingers, push=push, line="second line")
        both = first.account.told, server.account.told

        def tell(ids: list[str]) -> None:
            for told in both:
                told(ids)

        first.account.told = tell
        return dataclasses.replace(
            server,
            features=first.features,
            account=first.account,
            clock_skew_s=first.clock_skew_s,
            truncating=first.truncating,
            swept=first.swept,
            overtaken=first.overtaken,
            overrun=first.overrun,
        )


@dataclass(frozen=True)
class Profile:
    """One kind of histories."""

    name: str
    draw: Callable[[Choose], Operation]
    act: Callable[[_Stage, list[Operation]], None]

    def history(self, seed: int) -> list[Operation]:
        """Return the operations of a seed."""
        chance = random.Random(f"{seed} {self.name}")
        return [self.draw(chance.choice) for _ in range(chance.choice((6, 12, 30)))]

    def play(
        self,
        folder: Path,
        history: list[Operation],
        seed: int,
        told: Told = silent,
        instruments: Sequence[trio.abc.Instrument] = (),
    ) -> None:
        """Play a history under the circumstances of a seed; raises where a promise is broken."""
        self.act(_Stage(folder, seed, told, instruments), history)


def _alone(stage: _Stage, history: list[Operation]) -> None:
    _with_reference(stage, history, (0.0,))


def _faults(stage: _Stage, history: list[Operation]) -> None:
    _with_reference(stage, history, (0.05, 0.1, 0.3))


def _doubts(stage: _Stage, history: list[Operation]) -> None:
    _with_reference(stage, history, (0.2, 0.35, 0.5), DOUBTFUL)


def _late(stage: _Stage, history: list[Operation]) -> None:
    _with_reference(
        stage, history, (0.1, 0.2, 0.35), (*DOUBTFUL, FaultKind.LATE, FaultKind.LATE), lingers=True
    )


def _bulk(stage: _Stage, history: list[Operation]) -> None:
    _with_reference(stage, history, (0.0, 0.1, 0.3), together=1)


def _with_reference(
    stage: _Stage,
    history: list[Operation],
    probabilities: Sequence[float],
    kinds: tuple[FaultKind, ...] = WITHOUT_LATE,
    *,
    lingers: bool = False,
    together: int = 0,
    append_bytes: int = FROM_BYTES,
) -> None:
    """`together`: so many small files go in bulk; 0: the server takes none."""
    play(
        stage.folder,
        history,
        seed=stage.seed,
        remote=lambda: stage.server(
            probabilities, kinds, lingers=lingers, in_order=lingers, bulk=together > 0
        ),
        rules=stage.rules(together=together, append_bytes=append_bytes),
        instruments=stage.instruments,
    )


def _tails(stage: _Stage, history: list[Operation]) -> None:
    late = stage.chance("late").random() < 0.5
    kinds = (*DOUBTFUL, FaultKind.LATE, FaultKind.LATE) if late else DOUBTFUL
    _with_reference(stage, history, (0.0, 0.2, 0.35), kinds, lingers=late, append_bytes=1)


def _tails_two(stage: _Stage, history: list[Operation]) -> None:
    _with_ledger(stage, history, stage.server((0.0,), ()), stage.rules(append_bytes=1))


def _two(stage: _Stage, history: list[Operation]) -> None:
    _with_ledger(stage, history, stage.server((0.0,), ()), stage.rules())


def _two_bulk(stage: _Stage, history: list[Operation]) -> None:
    server = stage.server((0.0, 0.1, 0.3), WITHOUT_LATE, bulk=True)
    _with_ledger(stage, history, server, stage.rules(strict=False, together=1))


def _answers(stage: _Stage, history: list[Operation]) -> None:
    server = stage.server((0.0,), ())
    server.account.fingerprint = "the first"
    held_from = stage.chance("guards").choice((1, 3))
    # What is kept from the server, or from us, may be in the way of what comes meanwhile.
    _with_ledger(stage, history, server, stage.rules(strict=False, held_from=held_from))


def _decisions(stage: _Stage, history: list[Operation]) -> None:
    # A decision that is broken off half-way, or what the server does of it late, may leave a copy of what it has.
    _with_ledger(stage, history, stage.server((0.0, 0.1), WITH_LATE, lingers=True), stage.rules(strict=False))


def _two_faults(stage: _Stage, history: list[Operation]) -> None:
    server = stage.server((0.0, 0.05, 0.1, 0.3), WITH_LATE, lingers=True)
    # What a server does late may be in the way of what was done here meanwhile: a conflict with oneself.
    _with_ledger(stage, history, server, stage.rules(strict=False))


def _parts(stage: _Stage, history: list[Operation]) -> None:
    server = stage.server((0.2, 0.35, 0.5), (*DOUBTFUL, *[FaultKind.CUT] * 18))
    server.leaves_parts = True
    # A part counts as another client's file where ours was changed, renamed or removed since.
    _with_ledger(stage, history, server, stage.rules(strict=False))


def _plain(stage: _Stage, history: list[Operation]) -> None:
    server = stage.server((0.0, 0.1, 0.3), (*DOUBTFUL, *[FaultKind.CUT] * 5), plain=True)
    _with_ledger(stage, history, server, stage.rules(strict=False))


def _plain_parts(stage: _Stage, history: list[Operation]) -> None:
    server = stage.server((0.2, 0.35, 0.5), (*DOUBTFUL, *[FaultKind.CUT] * 18), plain=True)
    server.leaves_parts = True
    _with_ledger(stage, history, server, stage.rules(strict=False))


def _full(stage: _Stage, history: list[Operation]) -> None:
    _with_ledger(
        stage,
        history,
        stage.server((0.0,), ()),
        stage.rules(strict=False),
        partial(FullWorld, chance=stage.chance("full")),
    )


def _cuts(stage: _Stage, history: list[Operation]) -> None:
    # What a cut took back was sent, perhaps: then it comes from elsewhere.
    _with_ledger(
        stage,
        history,
        stage.server((0.0,), ()),
        stage.rules(strict=False),
        partial(CutWorld, chance=stage.chance("cuts")),
    )


def _push(stage: _Stage, history: list[Operation]) -> None:
    push = stage.chance("push").random() < 0.7  # else it is asked in time
    server = stage.server((0.0, 0.0, 0.05), WITHOUT_LATE, push=push)
    noticed_within_s = stage.noticed_within_s(push=push)
    # Once it listens, the other client does all of it again: in the end only messages tell of that, where they come.
    history = [*history, Wait(40.0), *(it for it in history if isinstance(it, OTHERS))]
    _with_ledger(stage, history, server, stage.rules(noticed_within_s=noticed_within_s))


def _mounts(stage: _Stage, history: list[Operation]) -> None:
    likely, push = (0.0, 0.05, 0.2), stage.chance("push").random() < 0.5
    bulk = stage.chance("bulk").random() < 0.3
    first = stage.server(likely, WITH_LATE, lingers=True, bulk=bulk, push=push)
    remotes = first, stage.second_line(first, likely, WITH_LATE)
    rules = stage.rules(
        strict=False, together=1 if bulk else 4, noticed_within_s=stage.noticed_within_s(push=push)
    )
    play_mounts(
        stage.folder, history, seed=stage.seed, remotes=remotes, rules=rules, instruments=stage.instruments
    )


def _offline(stage: _Stage, history: list[Operation]) -> None:
    never_seen = stage.chance("start").random() < 0.5
    server = stage.server((0.0, 0.1), WITHOUT_LATE)
    _with_ledger(stage, history, server, stage.rules(offline_first=never_seen))


def _with_ledger(
    stage: _Stage,
    history: list[Operation],
    server: FakeRemote,
    rules: Rules,
    world_of: Callable[..., World] = World,
) -> None:
    play_two(
        stage.folder,
        history,
        seed=stage.seed,
        remote=server,
        rules=rules,
        instruments=stage.instruments,
        world_of=world_of,
    )


def faulty_remote(seed: int) -> FakeRemote:
    """Return a server on a bad line."""
    chance = random.Random(seed)
    faults = FaultPlan(random.Random(chance.random()), probability=chance.choice((0.0, 0.1, 0.3)))
    latency_s = chance.choice((0.0, 0.1, 1.0))
    return FakeRemote(faults=faults, latency_s=latency_s, chance=random.Random(chance.random()))


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("alone", dying, _alone),
        Profile("faults", dying, _faults),
        Profile("doubts", doubtful, _doubts),
        Profile("late", doubtful, _late),
        Profile("bulk", unpacking, _bulk),
        Profile("two", wider, _two),
        Profile("same-second", same_second, _two),
        Profile("two-faults", rough, _two_faults),
        Profile("parts", rough, _parts),
        Profile("plain", rough, _plain),
        Profile("plain-parts", breaking, _plain_parts),
        Profile("offline", offline, _offline),
        Profile("answers", answering, _answers),
        Profile("decisions", deciding, _decisions),
        Profile("two-bulk", unpacking_beside, _two_bulk),
        Profile("tails", growing, _tails),
        Profile("tails-two", growing_beside, _tails_two),
        Profile("full", growing_beside, _full),
        Profile("push", pushed, _push),
        Profile("mounts", on_two_mounts, _mounts),
        Profile("cuts", growing_beside, _cuts),
    )
}
