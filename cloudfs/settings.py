"""What an account's file may say (docs/CONFIG.md): the keys, their kinds and bounds, and what they are unless said.

`cloudfs.accountfile` reads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from cloudfs import bandwidth

__all__ = ["Account", "Bandwidth", "SecretKind", "Settings", "Trust", "published_at"]

SecretKind = Literal["keyring", "credential", "file"]
"""Where an app password is kept; see `cloudfs.secrets`."""

Bytes = Annotated[int, msgspec.Meta(ge=0, le=2**60)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=30 * 86400)]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What a person may tune, in [settings] of the account's file. Sizes in bytes, times in seconds."""

    cache_size_bytes: Annotated[int, msgspec.Meta(ge=16 * 2**20, le=2**60)] | None = None
    """Most that cached blocks may take; None: 10 % of the disk, at most 20 GB."""
    cache_keep_free_bytes: Bytes | None = None
    """Free disk space that the cache leaves alone; None: 5 % of the disk, at least 1 GB."""
    cache_encrypt: bool | None = None
    """Seal all that is kept here of the account; None: as it is."""
    cache_key: SecretKind | None = None
    """Where the key for that is kept; None: in the keyring."""
    memory_bytes: Annotated[int, msgspec.Meta(ge=8 * 2**20, le=2**40)] = 40 * 2**20
    """Ceiling for contents held in memory, whatever is open."""
    quiet_s: Seconds = 2.0
    """A closed file goes up after it was left alone for so long."""
    listing_ttl_s: Seconds = 5.0
    """A used folder is listed again after so long, where changes of others are not found out otherwise."""
    poll_s: Annotated[float, msgspec.Meta(ge=0, le=86400)] = 30.0
    """The whole account is asked as often as this for changes of others; 0: only folders in use, one by one."""
    delete_guard: Annotated[int, msgspec.Meta(ge=0)] = 100
    """More files and folders than this, and more than half of all, vanishing on the server at once: ask; 0: never."""
    delete_guard_server: Annotated[int, msgspec.Meta(ge=0)] = 1000
    """More deletions than this, or of more than half of all, wait to be confirmed before they go up; 0: never."""
    keep: list[str] = []
    """Folders and files, by their paths in the mount, that are always kept here where nobody said anything else."""
    keep_max_bytes: Bytes | None = None
    """Of what is in them, no file that is larger; None: all."""
    xattrs: bool = True
    """Files have extended attributes (user.cloudfs.pin and more), for which small writes are slower."""
    allow_other: bool = False
    """Other users of this machine get into the mount, too, as far as the modes of its files allow."""
    metrics: int | str | None = None
    """Figures for Prometheus: a port of this machine, or a file (*.prom) for node_exporter; None: none."""
    request_deadline_s: Annotated[float, msgspec.Meta(ge=1, le=19)] = 15.0
    """Every request of a program is answered within it; suspend fails after 20 s."""


class Bandwidth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """How quick an account may be, in [bandwidth] of its file; `cloudfs.bandwidth` says what is written there."""

    up: str = "off"
    """A speed, or a time table of speeds, for what is sent."""
    down: str = "off"
    """The same for what is fetched."""
    metered: str = "pause"
    """On a metered connection, for what is fetched that no program reads: pause, ignore, or limit SPEED."""
    metered_up: str = "ignore"
    """The same for what is sent."""

    def rules(self) -> bandwidth.Rules:
        """Return what they mean; ValueError, which `accountfile.parse` has made impossible."""
        return bandwidth.Rules(
            up=bandwidth.parse_timetable(self.up),
            down=bandwidth.parse_timetable(self.down),
            metered=bandwidth.parse_metered(self.metered),
            metered_up=bandwidth.parse_metered(self.metered_up),
        )


class Trust(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Whom an account trusts, and how it shows who it is, beside the password."""

    ca_file: str | None = None
    """PEM file with a certificate authority to trust beside the system's."""
    client_certificate: str | None = None
    """PEM file with the certificate that is shown to a server that asks for one."""
    client_key: str | None = None
    """PEM file with its key; None: it is in the same file."""
    pinned_keys: list[str] = []
    """The server's certificate has to have one of these keys, as "sha256//BASE64"; none: any that is trusted."""

    @property
    def trust(self) -> Trust:
        """These settings alone."""
        return Trust(**{name: getattr(self, name) for name in Trust.__struct_fields__})


class Account(Trust, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One account, as in its file."""

    url: str
    """The WebDAV folder that is the root of the mount."""
    user: str
    """Login name, exactly as the app password was made for (case counts)."""
    user_id: str = ""
    """Nextcloud's own name of the user, a part of its addresses; "" on plain servers."""
    base_url: str = ""
    """Where Nextcloud's other services are; "" on plain servers."""
    own_password: bool | None = None
    """The app password was made for this account by its login, not brought along: the next login, or the logout,
    revokes it; None: nobody has noted it."""
    secret_store: SecretKind = "file"  # noqa: S105  # where, not what
    """Where the app password is; accounts from before there was a choice have it in a file."""
    features: dict[str, object] = {}
    """What the server was found to do, for starting without a network; written and read by `remote`."""
    settings: Settings = Settings()
    bandwidth: Bandwidth = Bandwidth()


def published_at(metrics: int | str) -> Path | int:
    """Return the file or the port that `metrics` means; ValueError with a sentence."""
    if isinstance(metrics, str) and not metrics.isdecimal():
        path = Path(metrics).expanduser()
        if not path.is_absolute() or not path.name:
            raise ValueError(f"{metrics!r} is no absolute path of a file")
        return path
    if not 1024 <= int(metrics) <= 65535:
        raise ValueError(f"{metrics} is no port that a user may have")
    return int(metrics)
