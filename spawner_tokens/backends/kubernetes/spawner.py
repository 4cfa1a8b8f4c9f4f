"""The Kubernetes backend: tokens in a Secret that the server's pod mounts and refers to."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping
from errno import EFBIG
from string import Formatter
from typing import Any

from jupyterhub import orm
from kubespawner import KubeSpawner
from sqlalchemy import inspect
from traitlets import Bool, Float, List, TraitError, Unicode, validate

from ...mixin import TokenSpawnerMixin
from ...tokens.files import PUBLIC_FILE, name_variable_file
from .apiserver import ApiServer
from .manifest import (
    PUBLIC_VOLUME,
    VOLUME,
    escape,
    find_mode,
    make_data,
    make_reference,
    make_secret,
    mount_secret,
)
from .secrets import Secret, Secrets

_PATIENCE = (
    10.0  # seconds at most, since a start may need several requests, and has to start a pod, too
)
_MOST = 2**20  # bytes of a Secret's data
_NOTEBOOK = "notebook"  # KubeSpawner's name for the user's own container
# Of the labels that Helm charts give: the one that is the same for all of a release's versions.
_RELEASE = ("app.kubernetes.io/instance", "release")
_OF_SERVER = {"pod_name", "user_server", "safe_user_server", "escaped_user_server"}
_OTHERS = {
    *(
        "userid",
        "username",
        "safe_username",
        "escaped_username",
    ),  # of one user and another's server, two may look alike
    *("servername", "safe_servername", "escaped_servername"),
    *("namespace", "hubnamespace", "pvc_name"),
}


class KubeTokenMixin(TokenSpawnerMixin):
    """Delivers files and variables by a Secret of the server's own. Mix it into spawners of KubeSpawner's family::

        class MySpawner(KubeTokenMixin, KubeSpawner):
            pass

    The pod mounts the Secret, and refers to it for variables: no token is in the pod's manifest.
    """

    delivers_in_start = True
    prepares_in_start = True
    delivers_variables = True

    tokens_secret_name_template = Unicode(
        "{pod_name}-tokens",
        help="""
        The name of the Secret with a server's tokens, which is in the namespace of its pod.

        Example::

            c.KubeTokenMixin.tokens_secret_name_template = "tokens-{user_server}"

        It has to be another one for each server, so ``{pod_name}`` or ``{user_server}`` is in it.
        The fields are those of ``KubeSpawner.pod_name_template``, and ``pod_name``. A Secret of that name that is not
        this Hub's is not touched, and the server gets no tokens.

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

        Tokens are renewed earlier by as much. The default is what a kubelet takes with a ``syncFrequency`` of a minute,
        which is its default.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    tokens_containers = List(
        Unicode(),
        help="""
        The names of further containers of the pod, and of its init containers, that find the files, too.

        Example::

            c.KubeTokenMixin.tokens_containers = ["git-sync"]

        They find them in ``tokens_mount_path``. They get no variables.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    tokens_notebook_mount = Bool(
        True,
        help="""
        Whether the user's own container finds the files.

        Example::

            c.KubeTokenMixin.tokens_notebook_mount = False

        Without them it still gets the variables that hold a token: set the specs' ``env`` to ``None``, too, to keep
        the tokens from it.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    # The Secret of the server that starts or runs; its name is kept, since the template may change under it.
    _tokens_secret_name: str | None = None
    _tokens_secret: Secret | None = None
    _tokens_making: asyncio.Task[Secret] | None = None
    _tokens_owning: asyncio.Task[None] | None = None

    @validate("tokens_secret_name_template")
    def _validate_tokens_secret_name_template(self, proposal: Any) -> str:
        template, where = str(proposal.value), f"{type(self).__name__}.tokens_secret_name_template"
        try:
            parts = list(Formatter().parse(template))
        except ValueError:
            raise TraitError(
                f"{where}: {template!r} is no template; write '{{pod_name}}-tokens'"
            ) from None
        fields = {field for _, field, *_ in parts if field is not None}
        if not fields & _OF_SERVER:
            raise TraitError(
                f"{where}: {template!r} is one for several servers; write '{{pod_name}}-tokens'"
            )
        is_name = all(re.fullmatch("[-a-z0-9.]*", text) for text, *_ in parts)
        if not is_name or template == self.secret_name_template or fields - _OF_SERVER - _OTHERS:
            words = "makes no name for a Secret of its own; write '{pod_name}-tokens'"
            raise TraitError(f"{where}: {template!r} {words}")
        return template

    @validate("tokens_containers")
    def _validate_tokens_containers(self, proposal: Any) -> list[str]:
        for name in proposal.value:
            if not re.fullmatch("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name):
                raise TraitError(
                    f"{type(self).__name__}.tokens_containers: {name!r} is no name of a container"
                )
        return list(proposal.value)

    @property
    def delivery_delay(self) -> float:
        return self.tokens_sync_period

    @property
    def shows_files(self) -> bool:
        return self.tokens_notebook_mount

    @property
    def tokens_public_path(self) -> str | None:
        return f"{self._public_directory}/{PUBLIC_FILE}" if self.tokens_notebook_mount else None

    @property
    def tokens_hub_name(self) -> str:
        # Hubs of several releases have their databases at the same path, each in its own pod.
        release = next(
            (self.common_labels[label] for label in _RELEASE if label in self.common_labels), None
        )
        identity = [
            super().tokens_hub_name,
            self._namespace_default(),
            self.component_label,
            release,
        ]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]

    # -- the start -------------------------------------------------------------------------------

    async def load_user_options(self) -> None:
        await super().load_user_options()
        await self.prepare_tokens()  # the profile has had its say

    async def get_pod_manifest(self) -> Any:
        # Here, and not before, the names of pod and namespace are final.
        if self.tokens_specs and not await self.deliver_tokens():
            return await super().get_pod_manifest()
        pod = await super().get_pod_manifest()
        self._mount(pod)
        return pod

    def make_variable(self, variable: str, text: str, token: str | None) -> Any:
        if token is not None:
            return make_reference(self._get_secret_name(), name_variable_file(token))
        return escape(text)

    def _mount(self, pod: Any) -> None:
        specs = self.tokens_specs
        files = {VOLUME: self.tokens_mount_path} if any(spec.file for spec in specs) else {}
        public = (
            {PUBLIC_VOLUME: self._public_directory}
            if any(spec.git_identity for spec in specs)
            else {}
        )
        places = dict.fromkeys(self.tokens_containers, files)
        if self.tokens_notebook_mount:
            places[_NOTEBOOK] = {**files, **public}
        places = {name: volumes for name, volumes in places.items() if volumes}
        if not places:
            return
        mode = find_mode(self.api.api_client.sanitize_for_serialization(pod.spec), places)
        if missing := mount_secret(pod, self._get_secret_name(), mode, places):
            words = "%s: its pod has no containers of these names, for the tokens: %s"
            self.log.warning(words, self._log_name, ", ".join(sorted(missing)))

    async def _make_create_pod_request(self, pod: Any, request_timeout: float) -> bool:
        # KubeSpawner's own, and the one place where the pod is known to be there: of KubeSpawner 7.0 and 7.1.
        created: bool = await super()._make_create_pod_request(pod, request_timeout)
        if created and self._tokens_secret is not None:
            self._tokens_owning = asyncio.ensure_future(self._set_owner(self._tokens_secret))
        return created

    async def _set_owner(self, secret: Secret) -> None:
        """Give the Secret its owner, which is not there when it is made. The start does not wait for it."""
        try:
            await self._secrets.set_owner(secret, self.pod_name)
        except OSError as error:  # it gets its owner at the next renewal
            self.log.warning("The Secret of %s has no owner yet: %s", self._log_name, error)

    # -- the Secret ------------------------------------------------------------------------------

    async def deliver_files(self, files: Mapping[str, bytes | None]) -> None:
        if sum(len(contents or b"") for contents in files.values()) > _MOST:
            raise OSError(EFBIG, "they are larger than the 1 MiB of a Secret")
        if not self.tokens_running:
            left, self._tokens_secret_name = self._tokens_secret_name, None
            if (
                left and left != self._get_secret_name()
            ):  # it could not be withdrawn, and the profile is another one now
                await self._secrets.remove(self.namespace, left)
        name = self._tokens_secret_name = self._get_secret_name()
        content = make_secret(
            name,
            self.tokens_hub_name,
            self.pod_name,
            make_data(files),
            self._build_common_labels(self._expand_all(self.extra_labels)),
            self._build_common_annotations(self._expand_all(self.extra_annotations)),
        )
        if self.tokens_running:
            await self._secrets.renew(self.namespace, content, self.pod_name)
        else:
            # A start that is cancelled does not take back what the API server has been asked for.
            self._tokens_making = asyncio.ensure_future(self._secrets.put(self.namespace, content))
            self._tokens_secret = await asyncio.shield(self._tokens_making)

    async def withdraw_files(self) -> None:
        owning, self._tokens_owning, self._tokens_secret = self._tokens_owning, None, None
        if owning is not None:
            owning.cancel()
        making, self._tokens_making = self._tokens_making, None
        if making is not None:
            await asyncio.gather(making, return_exceptions=True)
        await self._secrets.remove(self.namespace, self._get_secret_name())
        self._tokens_secret_name = None

    async def delete_forever(self) -> None:
        try:
            await super().delete_forever()
        finally:
            await self.withdraw_tokens()

    async def sweep_files(self) -> None:
        spawners = inspect(self.orm_spawner).session.query(orm.Spawner)
        known = {
            spawner.state["namespace"]
            for spawner in spawners
            if spawner.state and "namespace" in spawner.state
        }
        namespaces = None if self.enable_user_namespaces else sorted({self.namespace, *known})
        await self._secrets.sweep(namespaces)

    def get_state(self) -> dict[str, Any]:
        state: dict[str, Any] = super().get_state()
        if self._tokens_secret_name is not None:
            state["token_secret_name"] = self._tokens_secret_name
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self._tokens_secret_name = state.get("token_secret_name")

    def _get_secret_name(self) -> str:
        name: str = self._tokens_secret_name or self._expand_user_properties(
            self.tokens_secret_name_template
        )
        return name

    @property
    def _secrets(self) -> Secrets:
        patience = min(self.k8s_api_request_retry_timeout, _PATIENCE)
        api = ApiServer(self.api.api_client, self.k8s_api_request_timeout, patience)
        assert self.tokens_hub is not None
        refused = self.tokens_hub.known.setdefault("rights that Kubernetes refused", set())
        return Secrets(
            api, self.tokens_hub_name, refused, self.log, whole_cluster=self.enable_user_namespaces
        )

    @property
    def _public_directory(self) -> str:
        return f"{self.tokens_mount_path}-public"


class TokenKubeSpawner(KubeTokenMixin, KubeSpawner):
    """:class:`kubespawner.KubeSpawner` that hands over tokens."""
