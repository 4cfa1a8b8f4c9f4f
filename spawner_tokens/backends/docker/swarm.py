"""The Swarm backend: tokens as Docker Swarm secrets."""

from __future__ import annotations

import math
import secrets
from collections.abc import Awaitable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

from docker.errors import APIError
from docker.types import RestartPolicy, SecretReference
from dockerspawner import SwarmSpawner

from ...mixin import TokenSpawnerMixin
from ...tokens.files import PUBLIC_FILE
from .container import find_uid


class SwarmTokenMixin(TokenSpawnerMixin):
    """Delivers each file as a Swarm secret, for SwarmSpawner and its like::

        class MySpawner(SwarmTokenMixin, SwarmSpawner):
            pass

    A secret never changes, and a service that gets another one begins a new task. So a server keeps the tokens that it
    was started with, and tasks are not started again without the Hub, which would give them old ones.
    """

    delivers_in_start = True
    delivery_delay = math.inf

    object_id: Any  # DockerSpawner's

    # File → the name and the ID of its secret, for the service that is about to be created.
    _tokens_secrets: Mapping[str, tuple[str, str]] = {}

    @property
    def tokens_public_path(self) -> str:
        return f"{self.tokens_mount_path}/{PUBLIC_FILE}"

    # -- the service -----------------------------------------------------------------------------

    async def create_object(self) -> Any:
        # Here the image is final, and so is the name; a service that had it is gone; no variable has been rendered yet.
        await self.deliver_tokens()
        try:
            return await super().create_object()
        finally:
            self._tokens_secrets = {}

    def docker(self, method: str, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        if method == "create_service" and self._tokens_secrets:
            return self._create_service(*args, **kwargs)
        found: Awaitable[Any] = super().docker(method, *args, **kwargs)
        return found

    async def _create_service(self, task_template: Mapping[str, Any], **kwargs: Any) -> Any:
        uid = await self._find_uid(task_template["ContainerSpec"])
        references = make_references(self._tokens_secrets, self.tokens_mount_path, uid)
        task_template = make_task_template(task_template, references)
        return await super().docker("create_service", task_template=task_template, **kwargs)

    async def _find_uid(self, container: Mapping[str, Any]) -> int | None:
        try:
            image = (await self.docker("inspect_image", container["Image"]))["Config"] or {}
        except APIError:  # it may be only on the nodes that run it
            image = {}
        env = [*(image.get("Env") or ()), *(container.get("Env") or ())]
        return find_uid(str(container.get("User") or image.get("User") or ""), env)

    async def get_task(self) -> Any:
        task = await super().get_task()
        return None if task is not None and is_given_up(task) else task

    # -- the secrets -----------------------------------------------------------------------------

    async def deliver_files(self, files: Mapping[str, bytes | None]) -> None:
        await self._remove_secrets(self._server_label)
        labels, made = (
            dict(label.split("=", 1) for label in (self._hub_label, self._server_label)),
            {},
        )
        for file, contents in files.items():
            if contents is not None:
                name = f"spawner-tokens-{secrets.token_hex(12)}"
                made[file] = (
                    name,
                    (await self.docker("create_secret", name, contents, labels=labels))["ID"],
                )
        self._tokens_secrets = made

    async def withdraw_files(self) -> None:
        # A service has its secrets as long as it exists. SwarmSpawner removes one that it stops, and then they can go
        # while its task still ends; one whose task has ended by itself is there until the next start.
        if (
            not await self._remove_secrets(self._server_label)
            and await self.poll() is not None
            and self.object_id
        ):
            await self.remove_object()
            self.object_id = ""  # as DockerSpawner.stop() does
            await self._remove_secrets(self._server_label)

    async def sweep_files(self) -> None:
        await self._remove_secrets()

    async def _remove_secrets(self, *labels: str) -> bool:
        """Remove those of this Hub with these labels that no service has. Returns whether that was all."""
        found = await self.docker("secrets", filters={"label": [self._hub_label, *labels]})
        return all([await self._remove_secret(secret["ID"]) for secret in found])

    async def _remove_secret(self, secret: str) -> bool:
        try:
            await self.docker("remove_secret", secret)
        except APIError as error:
            if error.status_code == HTTPStatus.BAD_REQUEST:  # a service has it
                return False
            if error.status_code != HTTPStatus.NOT_FOUND:
                raise
        return True

    @property
    def _hub_label(self) -> str:
        return f"spawner_tokens.hub={self.tokens_hub_name}"

    @property
    def _server_label(self) -> str:
        return f"spawner_tokens.server={self.object_name}"


def make_references(
    made: Mapping[str, tuple[str, str]], directory: str, uid: int | None
) -> list[SecretReference]:
    """``made`` is file → name and ID of its secret; ``uid`` is who reads them, ``None`` if that is not known."""
    references = []
    for file, (name, secret) in made.items():
        mode = 0o444 if uid is None or file == PUBLIC_FILE else 0o400
        references.append(
            SecretReference(secret, name, f"{directory}/{file}", str(uid or 0), "0", mode)
        )
    return references


def make_task_template(
    template: Mapping[str, Any], references: Iterable[SecretReference]
) -> dict[str, Any]:
    """A service's task with these secrets, beside its own, that is not started again unless it says so itself."""
    container = {**template["ContainerSpec"]}
    container["Secrets"] = [*(container.get("Secrets") or ()), *references]
    return {
        "RestartPolicy": RestartPolicy(condition="none"),
        **template,
        "ContainerSpec": container,
    }


def is_given_up(task: Mapping[str, Any]) -> bool:
    """Whether a task was lost with its node and none will follow it. Its state stays as it was last heard of."""
    policy = task["Spec"].get("RestartPolicy") or {}
    state = task["Status"]["State"], task["DesiredState"]
    return policy.get("Condition") == "none" and state == ("running", "shutdown")


class TokenSwarmSpawner(SwarmTokenMixin, SwarmSpawner):
    """:class:`dockerspawner.SwarmSpawner` that hands over tokens."""
