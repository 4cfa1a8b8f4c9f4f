"""The traits: what an admin can set."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from traitlets import Bool, Callable, Dict, Enum, Float, TraitError, Unicode, validate
from traitlets.config import LoggingConfigurable

from .tokens.fields import POLICIES

if TYPE_CHECKING:
    from jupyterhub.spawner import Spawner as _Base
else:  # a mixin with traits; deriving from Spawner would demand start, stop and poll
    _Base = LoggingConfigurable


class TokenTraits(_Base):
    """The traits of :class:`~spawner_tokens.mixin.TokenSpawnerMixin`, by whose name they are set."""

    tokens = Dict(
        help="""
        The tokens to hand to each server: token name → spec.

        Example::

            c.TokenSpawnerMixin.tokens = {
                "gitlab": {"preset": "gitlab", "url": "https://gitlab.example.org"},
            }

        A name is a file name and a Secret key: lower-case letters, digits, ``-``, ``_`` and ``.``.
        The fields of a spec are listed in the README, under "A token's spec".

        .. versionadded:: 0.1
        """
    ).tag(config=True)

    tokens_mount_path = Unicode(
        "/var/run/secrets/spawner-tokens",
        help="""
        The directory where a server finds its token files.

        Example::

            c.TokenSpawnerMixin.tokens_mount_path = "/run/jupyterhub-tokens"

        Local processes share one file system, so each server gets a private directory inside of this one, which
        is made if only its parent exists. Their default is a directory in memory: in ``/run``, ``/dev/shm`` or
        ``$XDG_RUNTIME_DIR``.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    @validate("tokens_mount_path")
    def _validate_tokens_mount_path(self, proposal: Any) -> str:
        return self._validate_tokens_path(proposal)

    def _validate_tokens_path(self, proposal: Any) -> str:
        given, name = str(proposal.value), proposal.trait.name
        path = "/" + os.path.normpath(given).lstrip("/")
        if not given.startswith("/") or path == "/" or ":" in path or "\0" in path:
            raise TraitError(
                f"{type(self).__name__}.{name} has to be an absolute path without ':', not {given!r}"
            )
        return path

    tokens_missing = Enum(
        POLICIES,
        default_value="warn",
        help="""
        What to do when a token is not as its spec asks: ``refuse``, ``warn`` or ``skip``.

        Example::

            c.TokenSpawnerMixin.tokens_missing = "refuse"

        ``refuse``
            The server does not start; the user is told why, and how to log in again.
        ``warn``
            The server starts, and the log says what is wrong.
        ``skip``
            The server starts, silently.

        Under ``warn`` and ``skip`` an absent token, or one with a forbidden scope, is withheld; one that is
        too short-lived or lacks a required scope is delivered. A spec's field ``missing`` overrides this.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    tokens_min_lifetime = Float(
        300,
        min=0,
        help="""
        Seconds that a token must still live when it is handed over.

        Example::

            c.TokenSpawnerMixin.tokens_min_lifetime = 600

        Never more is asked than half of the life that the provider gives. A token whose end is not
        known passes. A spec's field ``min_lifetime`` overrides this.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    tokens_renew = Bool(
        True,
        help="""
        Keep the tokens of running servers fresh, and renew them before they are handed over.

        Example::

            c.TokenSpawnerMixin.tokens_renew = False

        With it, the Hub's own refreshes of a user's login (``Authenticator.refresh_user``) and ours are one: the
        provider is asked once for all who wait. Without it, a token is handed over as it is.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    tokens_renew_timeout = Float(
        10,
        min=0,
        help="""
        Seconds that a spawn waits for the provider at most.

        Example::

            c.TokenSpawnerMixin.tokens_renew_timeout = 5

        When they are over, the server gets what there is, as ``tokens_missing`` has it; an answer that comes later
        is kept, and delivered.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    tokens_hook = Callable(
        None,
        allow_none=True,
        help="""
        A function with the last word on the tokens' values, which may be async.

        Called as ``tokens = [await] tokens_hook(spawner, auth_state, tokens)`` with a dict of token name →
        value, it returns such a dict: changed values are delivered, names left out are withheld. It
        may give values for declared tokens that auth_state does not have. It is not called when there is
        no auth_state; if it raises, all tokens are withheld. It is called at each spawn, and again for a running
        server when the user's auth_state has changed.

        Example::

            async def exchange(spawner, auth_state, tokens):
                tokens["storage"] = await storage_token_for(tokens["login"])
                return tokens

            c.TokenSpawnerMixin.tokens_hook = exchange

        .. versionadded:: 0.1
        """,
    ).tag(config=True)
