"""The files of one server that were delivered, by their digests: only what has changed is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from .metrics import count_delivery
from .tokens.selection import Reason, Token


class DeliveredFiles:
    """What a server has by now, as far as this Hub has delivered it."""

    def __init__(self, spawner: Any) -> None:
        self._spawner = spawner
        self._digests: Mapping[str, bytes] = {}  # by name
        self._known: set[str] = set()  # of what was delivered, or has failed

    def list_known(self, tokens: Sequence[Token], has_hook: bool) -> list[Token]:
        """The tokens, without those that a server may have from the Hub that started it.

        These are not exchanged yet, or a hook left them out, which lacks what is not.
        """
        others = [each for each in tokens if f"{each.spec.name}.json" not in self._known]
        reasons = {Reason.EXCHANGE_FAILED}
        if has_hook and any(each.reason in reasons for each in others):
            reasons |= {Reason.ABSENT, Reason.HOOK_WITHHELD}
        return [each for each in tokens if each not in others or each.reason not in reasons]

    def forget(self) -> None:
        """The server has none of them any more, as far as is known."""
        self._digests, self._known = {}, set()

    async def deliver(
        self, files: Mapping[str, bytes | None], *, running: bool, are_all: bool = True
    ) -> set[str]:
        """Deliver these files if they have changed. ``are_all``: the server has no others.

        Returns the names of those that have changed. Raises what the backend raises.
        """
        before = self._digests
        after = dict({} if are_all else before)
        after |= {name: _digest(contents) for name, contents in files.items()}
        if after == before:
            return set()
        self._digests, self._known = {}, self._known | files.keys()
        try:
            await self._spawner.deliver_files(files)
        except BaseException:
            if self._spawner.tokens_running == running:  # else cancelled, since the server stops
                count_delivery(running=running, delivered=False)
            raise
        self._digests = after
        count_delivery(running=running, delivered=True)
        names = before.keys() | after.keys()
        return {name for name in names if before.get(name) != after.get(name)}


def _digest(contents: bytes | None) -> bytes:
    return b"" if contents is None else hashlib.sha256(contents).digest()
