"""The Kubernetes backend: tokens in a Secret, which the server's pod mounts and refers to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from errno import EEXIST, EFBIG
from functools import cached_property
from typing import Any

from kubespawner import KubeSpawner

from ...mixin import TokenSpawnerMixin
from ...sweep import Leftover, find_each
from ...tokens.files import PUBLIC_FILE, name_variable_file
from .apiserver import ApiServer
from .manifest import (
    PUBLIC_VOLUME,
    VOLUME,
    escape,
    find_mode,
    find_taken,
    make_data,
    make_reference,
    make_secret,
    mount_secret,
)
from .names import list_variables, make_hub_name
from .secrets import Secret, Secrets
from .traits import KubeTokenTraits

_PATIENCE = 10.0  # seconds at most for a request and its repetitions: a start needs several
_LARGEST = 2**20  # bytes of a Secret's data
_API_TOKEN = ".api-token"  # its key: no token can have that name
_NOTEBOOK = "notebook"  # KubeSpawner's name for the user's own container


class KubeTokenMixin(KubeTokenTraits, TokenSpawnerMixin):
    """Delivers files and variables by a Secret for each server.

    Mix it into spawners of KubeSpawner's family::

        class MySpawner(KubeTokenMixin, KubeSpawner):
            pass

    The pod mounts the Secret, and its variables refer to it: no token is in the pod's manifest.
    """

    delivers_in_start = True
    prepares_in_start = True
    delivers_variables = True

    location_key = "tokens_location_kubernetes"

    # As this Hub made it last. And of the server that starts.
    _tokens_secret: Secret | None = None
    _tokens_put_task: asyncio.Task[Secret] | None = None
    _tokens_owner_task: asyncio.Task[None] | None = None

    def make_location(self) -> dict[str, Any]:
        name: str = self._expand_user_properties(self.tokens_secret_name_template)
        more = {"namespace": self.namespace, "secret": name}
        return {**super().make_location(), **more, "notebook_mount": self.tokens_notebook_mount}

    @property
    def delivery_delay(self) -> float:
        return self.tokens_sync_period

    @property
    def shows_files(self) -> bool:
        return bool(self.tokens_location.get("notebook_mount", self.tokens_notebook_mount))

    @property
    def tokens_public_path(self) -> str | None:
        return f"{self._public_directory}/{PUBLIC_FILE}" if self.shows_files else None

    @property
    def admin_variables(self) -> Collection[str]:
        return list_variables(self.environment)

    @cached_property
    def tokens_hub_name(self) -> str:
        namespace = self._namespace_default()
        return make_hub_name(
            super().tokens_hub_name, namespace, self.component_label, self.common_labels
        )

    # -- the start -------------------------------------------------------------------------------

    async def load_user_options(self) -> None:
        await super().load_user_options()
        await self.prepare_tokens()  # after super(), which applies the profile

    async def get_pod_manifest(self) -> Any:
        # Here, and not before, the names of pod and namespace are final.
        if self.tokens_specs and not await self.deliver_tokens():
            return await super().get_pod_manifest()
        pod = await super().get_pod_manifest()
        self._mount(pod)
        return pod

    def get_env(self) -> dict[str, Any]:
        env = super().get_env()
        if self._hidden and self._tokens_secret is not None:
            secret = self.tokens_location["secret"]
            for variable in ("JUPYTERHUB_API_TOKEN", "JPY_API_TOKEN"):
                if env.get(variable) == self.api_token:
                    env[variable] = make_reference(secret, _API_TOKEN)
        return env

    @property
    def _hidden(self) -> dict[str, bytes]:
        """The file of the Secret for the server's own API token. A Hub forgets it at its end."""
        hides = self.api_token and self.tokens_hide_api_token and not self.tokens_containers
        return {_API_TOKEN: self.api_token.encode()} if hides else {}

    def make_variable(self, variable: str, text: str, token: str | None) -> Any:
        if token is not None:
            return make_reference(self.tokens_location["secret"], name_variable_file(token))
        return escape(text)

    def _mount(self, pod: Any) -> None:
        specs = self.tokens_specs
        files, public = {}, {}
        if any(spec.file for spec in specs):
            files[VOLUME] = self.tokens_directory
        if any(spec.git_identity for spec in specs):
            public[PUBLIC_VOLUME] = self._public_directory
        places = dict.fromkeys(self.tokens_containers, files)
        if self.shows_files:
            places[_NOTEBOOK] = {**files, **public}
        places = {name: volumes for name, volumes in places.items() if volumes}
        if not places:
            return
        if taken := find_taken(pod, places):
            words = "%s: these containers have a mount of their own in place of the token files: %s"
            self.log.warning(words, self._log_name, ", ".join(sorted(taken)))
        mode = find_mode(self.api.api_client.sanitize_for_serialization(pod.spec), places)
        if missing := mount_secret(pod, self.tokens_location["secret"], mode, places):
            words = "%s: the pod has no containers of these names in tokens_containers: %s"
            self.log.warning(words, self._log_name, ", ".join(sorted(missing)))

    async def _make_create_pod_request(self, pod: Any, request_timeout: float) -> bool:
        # Private to KubeSpawner (7.0 and 7.1), but only here it is known that the pod exists.
        created: bool = await super()._make_create_pod_request(pod, request_timeout)
        if created and self._tokens_secret is not None:
            self._tokens_owner_task = asyncio.ensure_future(self._set_owner(self._tokens_secret))
        return created

    async def _set_owner(self, secret: Secret) -> None:
        """Make the pod the owner of the Secret. The start does not wait for this."""
        try:
            await self._secrets.set_owner(secret, self.pod_name)
        except OSError as error:  # the next renewal sets the owner
            self.log.warning("The Secret of %s has no owner yet: %s", self._log_name, error)

    # -- the Secret ------------------------------------------------------------------------------

    async def deliver_files(self, files: Mapping[str, bytes | None]) -> None:
        files = {**files, **self._hidden}
        if sum(len(contents or b"") for contents in files.values()) > _LARGEST:
            raise OSError(EFBIG, "they are larger than the 1 MiB of a Secret")
        location = self.tokens_location
        content = make_secret(
            location["secret"],
            location["hub"],
            location["server"],
            self.pod_name,
            make_data(files),
            self._build_common_labels(self._expand_all(self.extra_labels)),
            self._build_common_annotations(self._expand_all(self.extra_annotations)),
        )
        if self.tokens_running:
            gone = {name for name, contents in files.items() if contents is None} - {PUBLIC_FILE}
            known, self._tokens_secret = self._tokens_secret, None
            self._tokens_secret = await self._secrets.renew(
                location["namespace"], content, self.pod_name, gone, known
            )
        else:
            self._check_name(location)
            # A start that is cancelled does not cancel the request: the API server may have it.
            put = self._secrets.put(location["namespace"], content)
            self._tokens_put_task = asyncio.ensure_future(put)
            self._tokens_secret = await asyncio.shield(self._tokens_put_task)
        if self._tokens_secret is not None:
            self.amend_location(uid=self._tokens_secret.uid)

    def _check_name(self, location: Mapping[str, Any]) -> None:
        assert self.tokens_hub is not None
        place = {name: location[name] for name in ("namespace", "secret")}
        if self.tokens_hub.sweeps.is_anothers(self.orm_spawner.id, place):
            words = "is another server's; set another tokens_secret_name_template"
            raise OSError(EEXIST, f"the Secret {'/'.join(place.values())} {words}")

    async def withdraw_files(self) -> None:
        put, set_owner = self._tokens_put_task, self._tokens_owner_task
        self._tokens_put_task = self._tokens_owner_task = self._tokens_secret = None
        if set_owner is not None:
            set_owner.cancel()
        if put is not None:
            await asyncio.gather(put, return_exceptions=True)
        location = self.tokens_location
        namespace, name, server = (location[key] for key in ("namespace", "secret", "server"))
        await self._secrets.remove(namespace, name, server, location.get("uid"))

    async def delete_forever(self) -> None:
        try:
            await super().delete_forever()
        finally:
            await self.withdraw_tokens()

    def sweep_files(self) -> AsyncIterator[Leftover]:
        hubs = sorted(hub for (hub,) in self.list_locations("hub"))
        every = {(None,)} if self.enable_user_namespaces else self.list_locations("namespace")
        return find_each(*(self._secrets.find_left(hubs, namespace) for (namespace,) in every))

    @property
    def _secrets(self) -> Secrets:
        patience = min(self.k8s_api_request_retry_timeout, _PATIENCE)
        api = ApiServer(self.api.api_client, self.k8s_api_request_timeout, patience)
        assert self.tokens_hub is not None
        refused = self.tokens_hub.known.setdefault((KubeTokenMixin, "refused"), {})
        return Secrets(api, self.tokens_location["hub"], refused, self.log)

    @property
    def _public_directory(self) -> str:
        return f"{self.tokens_directory}-public"


class TokenKubeSpawner(KubeTokenMixin, KubeSpawner):
    """:class:`kubespawner.KubeSpawner` that hands over tokens."""
