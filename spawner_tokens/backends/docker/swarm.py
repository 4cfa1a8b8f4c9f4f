"""The Swarm backend: tokens as Docker Swarm secrets."""

from __future__ import annotations

import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any

from docker.errors import APIError
from docker.types import RestartPolicy, SecretReference
from dockerspawner import SwarmSpawner

from ...mixin import TokenSpawnerMixin
from ...sweep import Leftover, find_each, parse_time
from ...tokens.files import PUBLIC_FILE
from .container import find_uid, has_mount
from .engine import CannotWrite

_HUB_LABEL, _SERVER_LABEL = "spawner_tokens.hub", "spawner_tokens.server"


class SwarmTokenMixin(TokenSpawnerMixin):
    """Delivers each file as a Swarm secret.

    Mix it into spawners of SwarmSpawner's family::

        class MySpawner(SwarmTokenMixin, SwarmSpawner):
            pass

    A secret cannot change, and a service with other secrets starts a new task. So a server keeps
    the tokens that it was started with. Swarm does not restart its task, since the new one would
    get the old tokens.
    """

    delivers_in_start = True
    delivery_delay = math.inf

    object_id: Any  # DockerSpawner's

    # For the service that is created next: file → name and ID of its secret.
    _tokens_secrets: Mapping[str, tuple[str, str]] = {}

    location_key = "tokens_location_swarm"

    def make_location(self) -> dict[str, Any]:
        return {**super().make_location(), "server": self.object_name}

    @property
    def tokens_public_path(self) -> str:
        return f"{self.tokens_directory}/{PUBLIC_FILE}"

    # -- the service -----------------------------------------------------------------------------

    async def create_object(self) -> Any:
        # Here image and name are final, an old service of that name is removed, and get_env() has
        # not been called yet.
        await self.deliver_tokens()
        try:
            return await super().create_object()
        finally:
            self._tokens_secrets = {}

    def docker(self, method: str, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        if method == "create_service" and self._tokens_secrets:
            return self._create_service(*args, **kwargs)
        result: Awaitable[Any] = super().docker(method, *args, **kwargs)
        return result

    async def _create_service(self, task_template: Mapping[str, Any], **kwargs: Any) -> Any:
        uid = await self._find_uid(task_template["ContainerSpec"])
        references = make_references(self._tokens_secrets, self.tokens_directory, uid)
        task_template = make_task_template(task_template, references)
        return await super().docker("create_service", task_template=task_template, **kwargs)

    async def _find_uid(self, container: Mapping[str, Any]) -> int | None:
        try:
            image = (await self.docker("inspect_image", container["Image"]))["Config"] or {}
        except APIError:  # the image may be on other nodes only
            image = {}
        env = [*(image.get("Env") or ()), *(container.get("Env") or ())]
        return find_uid(str(container.get("User") or image.get("User") or ""), env)

    async def get_task(self) -> Any:
        task = await super().get_task()
        return None if task is not None and is_given_up(task) else task

    # -- the secrets -----------------------------------------------------------------------------

    async def deliver_files(self, files: Mapping[str, bytes | None]) -> None:
        mounts = {"mounts": self.mounts, **self.extra_container_spec}["mounts"] or ()
        if has_mount({"Mounts": mounts}, self.tokens_directory):
            words = "by SwarmSpawner's options; set tokens_mount_path"
            raise CannotWrite(f"another mount is at {self.tokens_directory}, {words}")
        await self._remove_secrets()
        labels = self._labels
        made = {}
        for file, contents in files.items():
            if contents is not None:
                name = f"spawner-tokens-{secrets.token_hex(12)}"
                secret = await self.docker("create_secret", name, contents, labels=labels)
                made[file] = name, secret["ID"]
        self._tokens_secrets = made

    async def withdraw_files(self) -> None:
        # Secrets cannot be removed as long as their service exists. SwarmSpawner removes a service
        # that it stops, but leaves one whose task has ended by itself until the next start.
        if await self._remove_secrets():
            return
        if await self.poll() is not None and self.object_id:
            await self.remove_object()
            self.object_id = ""  # as DockerSpawner.stop() does
            await self._remove_secrets()

    def sweep_files(self) -> AsyncIterator[Leftover]:
        return find_each(*(self._find_left(hub) for (hub,) in self.list_locations("hub")))

    async def _find_left(self, hub: str) -> AsyncIterator[Leftover]:
        for secret in await self._list_secrets({_HUB_LABEL: hub}):
            location = {"hub": hub, "server": secret["Spec"]["Labels"].get(_SERVER_LABEL)}
            remove = partial(self._remove_secret, secret["ID"])  # one that is in use is none
            yield Leftover(location, remove, parse_time(secret["CreatedAt"]))

    async def _remove_secrets(self) -> bool:
        """Remove the server's secrets. Returns whether none is in use."""
        found = await self._list_secrets(self._labels)
        return all([await self._remove_secret(secret["ID"]) for secret in found])

    async def _list_secrets(self, labels: Mapping[str, str]) -> Iterable[Mapping[str, Any]]:
        wanted = [f"{name}={value}" for name, value in labels.items()]
        found: Iterable[Mapping[str, Any]]
        found = await self.docker("secrets", filters={"label": wanted})
        return found

    async def _remove_secret(self, secret: str) -> bool:
        try:
            await self.docker("remove_secret", secret)
        except APIError as error:
            if error.status_code == HTTPStatus.BAD_REQUEST:  # a service uses it
                return False
            if error.status_code != HTTPStatus.NOT_FOUND:
                raise
        return True

    @property
    def _labels(self) -> dict[str, str]:
        location = self.tokens_location
        return {_HUB_LABEL: location["hub"], _SERVER_LABEL: location["server"]}


def make_references(
    made: Mapping[str, tuple[str, str]], directory: str, uid: int | None
) -> list[SecretReference]:
    """A service's references to its secrets, each as a file in ``directory``.

    ``made``: file → name and ID of its secret. ``uid``: of the user who reads them; ``None`` if it
    is not known, and all users in the container have to read them.
    """
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
    """A service's task template with these secrets added to its own.

    Its task is not restarted, unless the template has a policy for that.
    """
    container = {**template["ContainerSpec"]}
    container["Secrets"] = [*(container.get("Secrets") or ()), *references]
    return {
        "RestartPolicy": RestartPolicy(condition="none"),
        **template,
        "ContainerSpec": container,
    }


def is_given_up(task: Mapping[str, Any]) -> bool:
    """Whether a task was lost with its node, and Swarm starts no other in its place.

    ``task``: the engine's answer to ``GET /tasks/{id}``. Its state is the last known one.
    """
    policy = task["Spec"].get("RestartPolicy") or {}
    state = task["Status"]["State"], task["DesiredState"]
    return policy.get("Condition") == "none" and state == ("running", "shutdown")


class TokenSwarmSpawner(SwarmTokenMixin, SwarmSpawner):
    """:class:`dockerspawner.SwarmSpawner` that hands over tokens."""
