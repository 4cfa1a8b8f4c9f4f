"""The Swarm backend: tokens as Docker Swarm secrets."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from docker.errors import APIError
from docker.types import RestartPolicy, SecretReference
from dockerspawner import SwarmSpawner

from .container import find_uid
from .delivery import PUBLIC_FILE
from .mixin import TokenSpawnerMixin

_LABEL = "spawner_tokens"


class SwarmTokenMixin(TokenSpawnerMixin):
    """Delivers each file as a Swarm secret, for SwarmSpawner and its like::

        class MySpawner(SwarmTokenMixin, SwarmSpawner):
            pass

    A secret never changes, and a service that gets another one begins a new task. So a server keeps the tokens that it
    was started with, and tasks are not started again without the Hub, which would give them old ones.
    """

    delivers_in_start = True
    delivery_delay = math.inf

    _token_references: tuple[SecretReference, ...] = ()

    @property
    def token_public_path(self) -> str:
        return f"{self.token_mount_path}/{PUBLIC_FILE}"

    async def create_object(self) -> Any:
        await self._remove_secrets(f"{_LABEL}.server={self.object_name}")
        await self.deliver_tokens()
        try:
            return await super().create_object()
        finally:
            self._token_references = ()

    def docker(self, method: str, *args: Any, **kwargs: Any) -> Any:
        if method == "create_service" and self._token_references:
            kwargs["task_template"] = make_task_template(kwargs["task_template"], self._token_references)
        return super().docker(method, *args, **kwargs)

    async def deliver_files(self, files: Mapping[str, bytes | None]) -> None:
        uid, references = await self._find_uid(), []
        labels = {f"{_LABEL}.hub": self.token_hub_name, f"{_LABEL}.server": self.object_name}
        for name, contents in files.items():
            if contents is not None:
                secret = f"spawner-tokens-{secrets.token_hex(12)}"
                made = await self.docker("create_secret", secret, contents, labels=labels)
                path = f"{self.token_mount_path}/{name}"
                is_open = uid is None or name == PUBLIC_FILE
                references.append(SecretReference(made["ID"], secret, path, str(uid or 0), "0", 0o444 if is_open else 0o400))
        self._token_references = tuple(references)

    async def withdraw_files(self) -> None:
        await self._remove_secrets(f"{_LABEL}.server={self.object_name}")

    async def sweep_files(self) -> None:
        await self._remove_secrets()

    async def _remove_secrets(self, *labels: str) -> None:
        """Remove those of this Hub that no service has, with these labels."""
        filters = {"label": [f"{_LABEL}.hub={self.token_hub_name}", *labels]}
        for secret in await self.docker("secrets", filters=filters):
            try:
                await self.docker("remove_secret", secret["ID"])
            except APIError as error:
                if error.status_code not in (HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST):  # a service has it
                    raise

    async def _find_uid(self) -> int | None:
        try:
            image = (await self.docker("inspect_image", self.image))["Config"]
        except APIError:  # only the nodes that run it have it
            image = {}
        user = self.extra_container_spec.get("user") or image.get("User") or ""
        env = [*(image.get("Env") or ()), *(f"{name}={text}" for name, text in self.get_env().items())]
        return find_uid(str(user), env)


def make_task_template(template: Mapping[str, Any], references: Iterable[SecretReference]) -> dict[str, Any]:
    """A service's task with these secrets, beside its own, that is not started again unless it says so itself."""
    container = {**template["ContainerSpec"]}
    container["Secrets"] = [*(container.get("Secrets") or ()), *references]
    return {"RestartPolicy": RestartPolicy(condition="none"), **template, "ContainerSpec": container}


class TokenSwarmSpawner(SwarmTokenMixin, SwarmSpawner):
    """:class:`dockerspawner.SwarmSpawner` that hands over tokens."""
