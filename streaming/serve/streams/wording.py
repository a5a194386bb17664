"""What is said of a source: under its name, never its address."""

import re
from dataclasses import replace

from workers.video.live.address import Address
from workers.video.live.events import Gap


class Wording:
    """Puts lines about a source into words for others.

    Args:
        name: that it is called by.
        address: of it, which may hold a password, or be a path on this machine.
    """

    def __init__(self, name: str, address: Address) -> None:
        self._name = name
        self._secrets = dict.fromkeys((address.url, address.name))

    def named(self, text: str) -> str:
        """Return a line with the name in the place of the address; it is for the log."""
        for secret in self._secrets:
            text = text.replace(secret, self._name)
        return " ".join(text.split())

    def plain(self, text: str) -> str:
        """Return what is amiss, without what libraries had to say of it; it is for clients."""
        reason = self.named(text).removeprefix(f"{self._name}: ")
        return re.split(r": | \(", reason)[0]

    def gap(self, gap: Gap) -> Gap:
        """Return a gap whose reason is for clients."""
        return replace(gap, reason=self.plain(gap.reason))
