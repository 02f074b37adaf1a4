"""Program of the tests: mount a MemoryFileSystem, take commands from stdin, answer as JSON lines.

    python -m tests.fuse.serve MOUNTPOINT [--deadline S] [--caching S] [--allow-other]

Commands are JSON: ["call", method, args…] on the file system, ["announce", method, args, kwargs], ["state"],
["unmount"]. End of input stops it like SIGTERM does.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import trio

from cloudfs.errors import UserError
from cloudfs.fuse.mount import Session
from cloudfs.fuse.mount_point import claim
from cloudfs.fuse.notify import KernelNotifier
from cloudfs.fuse.operations import KernelCaching, Operations
from cloudfs.types import ROOT
from tests.fuse.memory_filesystem import MemoryFileSystem


def say(**answer: object) -> None:
    print(json.dumps(answer), flush=True)


class Served:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self.filesystem = MemoryFileSystem()
        self.filesystem.failing_releases = 1
        self.filesystem.add(ROOT, "hello.txt", b"hello world\n")
        self.filesystem.add(self.filesystem.add(ROOT, "docs", None), "deep.txt", b"deep")
        seconds = arguments.caching
        self.operations = Operations(
            self.filesystem,
            caching=KernelCaching(seconds, seconds, seconds),
            deadline_s=arguments.deadline,
        )
        self.notifier = KernelNotifier()
        self.session = Session(
            self.operations,
            claim(arguments.mount_point),
            account="test",
            notifier=self.notifier,
            grace_s=2,
            allow_other=arguments.allow_other,
        )

    def state(self) -> dict[str, Any]:
        filesystem = self.filesystem
        return {
            "requests": msgspec.to_builtins(self.operations.statistics()),
            "notifications": msgspec.to_builtins(self.notifier.statistics()),
            "lookups": {str(ino): count for ino, count in filesystem.lookups.items()},
            "calls": [repr(call) for call in filesystem.calls],
            "handles": len(filesystem.handles),
        }

    async def command(self, name: str, *arguments: Any) -> object:
        if name == "state":
            return self.state()
        if name == "unmount":
            try:
                await self.session.unmount()
            except UserError as error:
                return error.message
            return True
        if name == "set":
            setattr(self.filesystem, arguments[0], arguments[1])
            return None
        if name == "fill":
            for number in range(arguments[1]):
                self.filesystem.add(arguments[0], f"file-{number:06}", b"")
            return None
        if name == "add":
            return self.filesystem.add(arguments[0], arguments[1], arguments[2].encode())
        if name == "grow":
            self.filesystem.nodes[arguments[0]].data[:] = arguments[1].encode()
            return None
        call: Callable[..., object] = getattr(self.notifier, arguments[0])
        return call(*arguments[1], **arguments[2])


async def listen(served: Served, stop: trio.CancelScope) -> None:
    rest = b""
    async with trio.lowlevel.FdStream(0) as stdin:
        async for chunk in stdin:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                name, *arguments = json.loads(line)
                with trio.CancelScope(shield=True):  # unmounting ends us, but not before the answer
                    say(answer=await served.command(name, *arguments))
    stop.cancel()


async def on_signal(stop: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            stop.cancel()


async def main(arguments: argparse.Namespace) -> None:
    served = Served(arguments)
    async with trio.open_nursery() as helpers:
        async with trio.open_nursery() as nursery:
            helpers.start_soon(on_signal, nursery.cancel_scope)
            helpers.start_soon(listen, served, nursery.cancel_scope)
            await nursery.start(served.session.run)
            say(ready=True)
        helpers.cancel_scope.cancel()
    say(ended=True, state=served.state())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("mount_point")
    parser.add_argument("--deadline", type=float, default=5.0)
    parser.add_argument("--allow-other", action="store_true")
    parser.add_argument("--caching", type=float, default=0.0)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        trio.run(main, parser.parse_args())
    except* UserError as group:
        error = group.exceptions[0]
        say(error=str(error))
        sys.exit(1)
