"""Puts an account at work together from its settings: the engine, its connections, and what goes along with them."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import msgspec
import trio

from cloudfs import config
from cloudfs.account.at_work import EngineAtWork
from cloudfs.account.logins import Login
from cloudfs.account.protocol import AtWork, Launch
from cloudfs.account.reloading import Reloader, cache_limits, kept_by
from cloudfs.account.xattrs import FileXattrs
from cloudfs.concurrency.links import watch_addresses
from cloudfs.concurrency.supervise import supervise
from cloudfs.desktop.inhibiting import hold_up_sleep
from cloudfs.desktop.metered import watch_metered
from cloudfs.engine import Engine, EngineConfig, open_engine
from cloudfs.errors import ExitCode, UserError
from cloudfs.fuse.operations import KernelCaching
from cloudfs.metadata.changes import ChangeSink
from cloudfs.remote.connect import Site
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.limiting import Traffic
from cloudfs.remote.protocol import Features
from cloudfs.remote.tls import context_of
from cloudfs.secrets.protocol import SecretStore
from cloudfs.secrets.stores import store_of
from cloudfs.sync.eagerness import WorkerConfig
from cloudfs.sync.throttling import Throttle
from cloudfs.vault.opening import Opened

__all__ = ["compose"]

_SETTLES_S = 5.0
"""So long what has just arrived is still made into clean blocks here, or it would have to come down again."""


@asynccontextmanager
async def compose(launch: Launch, changes: ChangeSink, caching: KernelCaching) -> AsyncIterator[AtWork]:
    """Open an account's engine: local state first, no request is sent. On leaving, everything is safe on disk.

    `caching` is lengthened while all changes of others are announced to `changes`. Without a password that can be read
    yet it begins all the same. Raises UserError where there will be none.
    """
    async with trio.open_nursery() as nursery:
        login = _login(launch)
        nursery.start_soon(partial(supervise, "login", login.run, chance=random.Random()))  # noqa: S311  # jitter
        await login.begin()
        async with _opened(launch, login, changes, caching) as at_work:
            yield at_work
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _opened(
    launch: Launch, login: Login, changes: ChangeSink, caching: KernelCaching
) -> AsyncIterator[AtWork]:
    account = launch.account
    traffic = Traffic()
    remote = WebdavRemote(_site(launch), login.secret, tls=context_of(account), traffic=traffic)
    try:
        async with (
            open_engine(
                _engine_config(launch),
                remote,
                changes,
                reconnect=remote.distrust_connections,
                network=watch_addresses,
                told=caching.rely,
                withheld=login.withheld,
            ) as engine,
            trio.open_nursery() as nursery,
        ):
            login.attach(remote, engine.connectivity, engine.greet)
            throttle = Throttle(traffic, engine.pause, account.bandwidth.rules())
            for name, run in (
                ("limits", throttle.run),
                ("metered connections", partial(watch_metered, throttle.tell_metered)),
                ("sleep", partial(hold_up_sleep, partial(_sends, engine), partial(_send_all, engine))),
            ):
                nursery.start_soon(partial(supervise, name, run, chance=random.Random()))  # noqa: S311  # jitter
            reloader = Reloader(engine, throttle, launch.folders, launch.name, account)
            xattrs = FileXattrs(engine, nursery) if account.settings.xattrs else None
            at_work = EngineAtWork(engine, traffic, login, reloader, xattrs)
            yield at_work
            with trio.move_on_after(_SETTLES_S):
                await engine.worker.wait_settled()
            at_work.keep_readers()
            nursery.cancel_scope.cancel()
    finally:
        with trio.move_on_after(2, shield=True):
            await remote.aclose()


def _sends(engine: Engine) -> bool:
    """Tell whether changes are going to the server, or will within seconds."""
    if not engine.connectivity.online or engine.pause.sending.is_on:
        return False
    return bool(engine.worker.in_flight()) or engine.store.nodes.count_dirty() > len(
        engine.obstacles.all_blocked()
    )


async def _send_all(engine: Engine) -> None:
    await engine.worker.wait_synced(lambda _: True)


def _login(launch: Launch) -> Login:
    def find() -> SecretStore:
        account = config.load_account(launch.folders, launch.name)
        return store_of(launch.folders, launch.name, account.secret_store)

    def stamp() -> object:
        with suppress(OSError):
            found = launch.folders.account_file(launch.name).stat()
            return found.st_ino, found.st_mtime_ns
        return None

    has_screen = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return Login(find, stamp, may_prompt=has_screen)


def _site(launch: Launch) -> Site:
    account = launch.account
    try:
        features = msgspec.convert(account.features, Features)
    except msgspec.ValidationError as error:
        path = launch.folders.account_file(launch.name)
        raise UserError(
            f"{path}: features: {error}", hint="Log in again to have it rewritten.", code=ExitCode.BAD_CONFIG
        ) from error
    return Site(account.url, account.user, features, account.base_url or None, account.user_id or None)


def _engine_config(launch: Launch) -> EngineConfig:
    settings = launch.account.settings
    cache = launch.folders.account_cache(launch.name)
    size, keep_free = cache_limits(settings, cache)
    opened = launch.opened or Opened(launch.folders.account_state(launch.name), None)
    return EngineConfig(
        state=opened.folder,
        keys=opened.keys,
        cache=cache,
        cache_bytes=size,
        cache_keep_free_bytes=keep_free,
        memory_bytes=settings.memory_bytes,
        listing_ttl_s=settings.listing_ttl_s,
        poll_s=settings.poll_s,
        delete_guard=settings.delete_guard,
        delete_guard_server=settings.delete_guard_server,
        keep=kept_by(settings),
        worker=WorkerConfig(quiet_s=settings.quiet_s),
    )
