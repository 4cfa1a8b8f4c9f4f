"""The traits that an admin can set."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from traitlets import Bool, Callable, Dict, Enum, Float, TraitError, Unicode
from traitlets.config import LoggingConfigurable

from .tokens.fields import POLICIES, SHARED_POLICIES

if TYPE_CHECKING:
    from jupyterhub.spawner import Spawner as _Base

    _Text = Unicode[str, str | bytes]
else:  # a mixin with traits; deriving from Spawner would demand start, stop and poll
    _Base, _Text = LoggingConfigurable, Unicode


class AbsolutePath(_Text):
    """A trait for an absolute path without ``:``. Its value has no ``..`` and no doubled ``/``.

    The default value is valid as it is.
    """

    info_text = "an absolute path"

    def validate(self, obj: Any, value: Any) -> str:
        given: str = super().validate(obj, value)
        if given == self.default_value:
            return given
        path = "/" + os.path.normpath(given).lstrip("/")
        if not given.startswith("/") or path == "/" or ":" in path or "\0" in path:
            raise TraitError(
                f"{type(obj).__name__}.{self.name} has to be an absolute path without ':', "
                f"not {given!r}"
            )
        return path


class TokenTraits(_Base):
    """The traits of :class:`~spawner_tokens.mixin.TokenSpawnerMixin`, set by that class's name."""

    tokens = Dict(
        help="""
        The tokens to hand to each server: token name → spec.

        Example::

            c.TokenSpawnerMixin.tokens = {
                "gitlab": {"preset": "gitlab", "url": "https://gitlab.example.org"},
                "storage": {"exchange": {"audience": "storage-api"}},
            }

        A name is a file name and a Secret key: lower-case letters, digits, ``-``, ``_`` and ``.``.
        The fields of a spec are in the documentation, under "A token's spec". In a group override
        or a profile, ``null`` does not take away what a preset gives: write ``false``.

        .. versionadded:: 0.1
        """
    ).tag(config=True)

    tokens_mount_path = AbsolutePath(
        "/var/run/secrets/spawner-tokens",
        help="""
        The directory where a server finds its token files.

        Example::

            c.TokenSpawnerMixin.tokens_mount_path = "/run/jupyterhub-tokens"

        Local processes share one file system, so each server gets a private directory in this one.
        The Hub makes ``tokens_mount_path``, but not its parent. The default for local processes is
        a directory in memory: in ``/run``, ``/dev/shm`` or ``$XDG_RUNTIME_DIR``.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    tokens_missing = Enum(
        POLICIES,
        default_value="warn",
        help="""
        What to do when a token is not as its spec asks: ``refuse``, ``warn`` or ``skip``.

        Example::

            c.TokenSpawnerMixin.tokens_missing = "refuse"

        ``refuse``
            The server does not start. The user sees the reason, and how to log in again.
        ``warn``
            The server starts, and the log says what is wrong.
        ``skip``
            The server starts, and the log says nothing.

        Under ``warn`` and ``skip``, a token that is absent or has a forbidden scope is withheld.
        A token that is too short-lived or lacks a required scope is delivered. A spec's field
        ``missing`` overrides this.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    tokens_shared = Enum(
        SHARED_POLICIES,
        default_value="withhold",
        help="""
        What a server gets while others may use it, too: ``withhold``, ``deliver`` or ``refuse``.

        Example::

            c.TokenSpawnerMixin.tokens_shared = "deliver"

        Who may use a server may use its tokens. JupyterHub lets a user share a server with users
        and groups, and with all who have a code.

        ``withhold``
            A shared server has no tokens. A running one loses its files within two seconds, and
            gets them back when it is not shared any more. Variables cannot be taken back: the log
            names a running server that has some.
        ``deliver``
            A shared server has its tokens.
        ``refuse``
            A shared server does not start. One that runs is treated as under ``withhold``.

        A spec's field ``shared`` overrides this.

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

        Half of the life that the provider gives is always enough, and a token whose end is not
        known is accepted. A spec's field ``min_lifetime`` overrides this.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    tokens_pull = Bool(
        False,
        help="""
        Let each server ask the Hub for its own tokens, with its own ``JUPYTERHUB_API_TOKEN``.

        Example::

            c.TokenSpawnerMixin.tokens_pull = True

        The variable ``SPAWNER_TOKENS_URL`` has the address. A server gets the tokens that it was
        started with, and no other. Then git has a live token in servers without files, too. The
        default is false because ``JUPYTERHUB_API_TOKEN`` can be read where variables can, as with
        ``docker inspect``.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    tokens_renew = Bool(
        True,
        help="""
        Keep the tokens of running servers fresh, and renew them before they are handed over.

        Example::

            c.TokenSpawnerMixin.tokens_renew = False

        If true, the Hub's own refreshes of a login (``Authenticator.refresh_user``) are combined
        with these renewals: one request to the provider serves all that wait for it. If false, a
        token is handed over as it is.

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

        After that time, the server gets the tokens that there are, by the policy
        ``tokens_missing``. An answer that comes later is stored, and delivered.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    tokens_hook = Callable(
        None,
        allow_none=True,
        help="""
        A function that changes or withholds the tokens' values, and may be async.

        It is called as ``tokens = [await] tokens_hook(spawner, auth_state, tokens)``. ``tokens`` is
        a dict of token name → value, and so is the result: changed values are delivered, names that
        are left out are withheld. The result may have values for declared tokens that auth_state
        does not have. A value may be ``{"token": text, "expires_at": end}``, with seconds since the
        epoch or ISO 8601.

        It is called at each spawn, and again for a running server when the user's auth_state has
        changed, and before a value of its own ends, by that ``expires_at`` or as a JWT. It is not
        called when there is no auth_state. If it raises at a spawn, all tokens are withheld; for a
        running server, which keeps the tokens that it has, it is called again, ever later.

        Example::

            async def ask_vault(spawner, auth_state, tokens):
                tokens["vault"] = await vault_token_for(tokens["login"])
                return tokens

            c.TokenSpawnerMixin.tokens_hook = ask_vault

        .. versionadded:: 0.1
        """,
    ).tag(config=True)
