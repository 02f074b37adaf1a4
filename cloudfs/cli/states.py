"""What a state of the connection means to a person, and what can be done about it."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Standing", "meaning"]

_MEANING = {
    "waiting for the keyring": "unlock it, and the mount goes on by itself; what is to be sent is kept",
    "failing": "the server answers with nothing but errors; what is to be sent is kept and tried again and again",
    "maintenance": "what is to be sent is kept until the server takes it again",
    "throttled": "the server asks to be left alone for a while; what is to be sent is kept until then",
    "offline": "what is to be sent is kept until the server can be reached again",
}


class Standing(Protocol):
    """How it stands with the server: a status, or the first answer after a mount."""

    @property
    def state(self) -> str:
        """As in `control.protocol.Status`."""
        ...

    @property
    def untrusted(self) -> bool:
        """Its certificate is not trusted."""
        ...


def meaning(standing: Standing, account: str) -> str:
    """Return it in words that go on after the state; "" where all is well."""
    again = f"cloudfs login --account {account}"
    if standing.state == "needs-login":
        return f"log in again with `{again}`; the mount then goes on by itself"
    if standing.untrusted:
        return (
            f"nothing is sent to a server like that; if its certificate comes from an authority of your own:"
            f" `{again} --ca-file FILE`"
        )
    return _MEANING.get(standing.state, "")
