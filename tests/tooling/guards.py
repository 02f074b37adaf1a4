"""A pytest plugin with the rules that every test is kept to.

- `cloudfs.*` logs nothing from WARNING on, but what the test expects: `expect_log("regex")`, fixture or marker.
- No descriptor is left open, and nothing left mounted below pytest's folder. (What a fixture of a wider scope
  opened before the test may stay open.)
- Both hold for the daemons that a test starts or uses, too: for their logs, and for the blocks, staging files and
  deleted files that they have open. See `tests.tooling.daemons`.
- Nothing touches the account, the settings, the keyring or the cache of whoever runs the tests, and no proxy is
  between.
- What the machine lacks is skipped at a desk and fails in CI: see `tests.tooling.needs`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.tooling.daemons import DaemonLogs, held_by, homes_of, leaked_in
from tests.tooling.leaks import Mount, is_of_engine, leaked_descriptors, mounts_below, open_descriptors
from tests.tooling.logs import LogGuard
from tests.tooling.needs import check_needs

XDG_VARIABLES = ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR")

SESSION_VARIABLES = ("DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY", "CREDENTIALS_DIRECTORY")
"""With these a login would keep its password in the keyring of whoever runs the tests."""

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")

RULE_BROKEN = "broke a rule of tests.tooling.guards"

_failed = pytest.StashKey[bool]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before anything is set up for a test, look whether it can run here."""
    check_needs(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember failures: what a test that broke off leaves behind is no news."""
    report = yield
    if report.failed:
        item.stash[_failed] = True
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Note for `scripts/test` which tests broke a rule: that they pass when they are repeated proves nothing."""
    errors = terminalreporter.getreports("error")
    broken = [report.nodeid for report in errors if RULE_BROKEN in report.longreprtext]
    if config.pluginmanager.hasplugin("cacheprovider") and config.cache is not None:
        config.cache.set("cloudfs/broken_rules", broken)


@pytest.fixture(scope="session", autouse=True)
def guarded_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonLogs]:
    """Give fixtures of a wide scope a home of their own; find what they left mounted and their daemons' last words."""
    everywhere = tmp_path_factory.getbasetemp()
    before = mounts_below(everywhere)
    logs = DaemonLogs()
    with pytest.MonkeyPatch.context() as patch:
        _isolate(patch, tmp_path_factory.mktemp("session"))
        yield logs
    guard = LogGuard()
    # Without pytest's links to the newest folder of each name.
    folders = [folder for folder in everywhere.iterdir() if not folder.is_symlink()]
    guard.take(logs.news(home for folder in folders for home in folder.glob("*/")))
    _fail_with(_leftover_mounts(everywhere, before) + guard.complaints())


@pytest.fixture(autouse=True)
def guarded_home(guarded_test: LogGuard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep all files of cloudfs, and with them its accounts, in the test's own folder: CLOUDFS_HOME."""
    del guarded_test  # only so that it outlives everything else
    return _isolate(monkeypatch, tmp_path)


@pytest.fixture(autouse=True)
def guarded_test(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, guarded_session: DaemonLogs
) -> Iterator[LogGuard]:
    """Fail the test for what it left behind. First of a test's own fixtures, so the last to be torn down."""
    everywhere = tmp_path_factory.getbasetemp()
    descriptors, mounts = open_descriptors(), mounts_below(everywhere)
    daemons = {home: held_by(home) for home in homes_of(mounts)} if mounts else {}
    guard = LogGuard()
    for marker in request.node.iter_markers("expect_log"):
        guard.expect(*marker.args, **marker.kwargs)
    logger = logging.getLogger("cloudfs")
    logger.addHandler(guard)
    yield guard
    logger.removeHandler(guard)
    complaints = _leftover_mounts(everywhere, mounts)  # always: the next test must not meet them
    guard.take(guarded_session.news([*daemons, *_homes_of_test(request)]))
    if not request.node.stash.get(_failed, False):  # the stash's signature
        complaints += guard.complaints() + leaked_in(daemons)
        spared = is_of_engine if request.node.get_closest_marker("shared_engine") else lambda _: False
        complaints += [
            f"descriptor left open: {target}" for target in leaked_descriptors(descriptors, spared)
        ]
    _fail_with(complaints)


def _homes_of_test(request: pytest.FixtureRequest) -> list[Path]:
    folder = request.node.funcargs.get("tmp_path")
    return [] if folder is None else list(folder.glob("*/"))


@pytest.fixture
def expect_log(guarded_test: LogGuard) -> Callable[..., None]:
    """Say what the test makes cloudfs log: `expect_log(regex, optional=False)`, at any time within it."""
    return guarded_test.expect


def _isolate(patch: pytest.MonkeyPatch, folder: Path) -> Path:
    home = folder / "home"
    patch.setenv("CLOUDFS_HOME", str(home))
    for variable in XDG_VARIABLES:  # for tests of cloudfs without CLOUDFS_HOME
        patch.setenv(variable, str(folder / variable.lower()))
    for variable in SESSION_VARIABLES:
        patch.delenv(variable, raising=False)
    for variable in PROXY_VARIABLES:
        patch.delenv(variable, raising=False)
        patch.delenv(variable.lower(), raising=False)
    return home


def _leftover_mounts(folder: Path, before: list[Mount]) -> list[str]:
    leftover = [mount for mount in mounts_below(folder) if mount not in before]
    for mount in leftover:
        mount.detach()
    return [f"mount left over (now detached): {mount.target} ({mount.kind})" for mount in leftover]


def _fail_with(complaints: list[str]) -> None:
    if complaints:
        pytest.fail("\n".join([*complaints, f"({RULE_BROKEN})"]), pytrace=False)
