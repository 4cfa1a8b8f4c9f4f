"""The traits of KubeTokenMixin that an admin can set."""

from __future__ import annotations

from typing import Any

from traitlets import Bool, Float, List, TraitError, Unicode, validate

from ...traits import TokenTraits
from .names import find_template_error, is_container_name


class KubeTokenTraits(TokenTraits):
    """The traits of :class:`~.spawner.KubeTokenMixin`, set by that class's name."""

    tokens_secret_name_template = Unicode(
        "{pod_name}-tokens",
        help="""
        The name of the Secret with a server's tokens, in the namespace of its pod.

        Example::

            c.KubeTokenMixin.tokens_secret_name_template = "tokens-{user_server}"

        It has to be different for each server, so it needs the field ``{pod_name}`` or
        ``{user_server}``. Other fields are those of ``KubeSpawner.pod_name_template``. If there is
        a Secret of that name that is not this Hub's, it is not touched, and the server gets no
        tokens.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    tokens_sync_period = Float(
        90,
        min=0,
        help="""
        Seconds that a kubelet may take to show a changed Secret to a running server.

        Example::

            c.KubeTokenMixin.tokens_sync_period = 30

        Tokens are renewed earlier by this time. The default is enough for a kubelet with its
        default ``syncFrequency`` of one minute.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    tokens_containers = List(
        Unicode(),
        help="""
        The names of more containers and init containers of the pod that get the files.

        Example::

            c.KubeTokenMixin.tokens_containers = ["git-sync"]

        The files are in ``tokens_mount_path`` there, too. These containers get no variables.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    tokens_notebook_mount = Bool(
        True,
        help="""
        Whether the user's own container gets the files.

        Example::

            c.KubeTokenMixin.tokens_notebook_mount = False

        If false, it still gets the variables that hold a token. To keep tokens from it, also set
        the specs' ``env`` to ``None``.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    tokens_hide_api_token = Bool(
        True,
        help="""
        Keep ``JUPYTERHUB_API_TOKEN`` out of the pod's manifest, as the tokens are.

        Example::

            c.KubeTokenMixin.tokens_hide_api_token = False

        If true, this variable and ``JPY_API_TOKEN`` refer to the server's Secret. They stay in the
        manifest of a server without tokens, and where ``tokens_containers`` lets other containers
        read the Secret.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    @validate("tokens_secret_name_template")
    def _validate_tokens_secret_name_template(self, proposal: Any) -> str:
        template: str = proposal.value
        error = find_template_error(template)
        if template == self.secret_name_template:
            error = "is the name of KubeSpawner's own Secret"
        if error is not None:
            words = f"{template!r} {error}; write '{{pod_name}}-tokens'"
            raise TraitError(f"{type(self).__name__}.{proposal.trait.name}: {words}")
        return template

    @validate("tokens_containers")
    def _validate_tokens_containers(self, proposal: Any) -> list[str]:
        for name in proposal.value:
            if not is_container_name(name):
                words = f"{name!r} is not a valid name of a container"
                raise TraitError(f"{type(self).__name__}.{proposal.trait.name}: {words}")
        return list(proposal.value)
