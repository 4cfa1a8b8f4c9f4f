"""Checks of servers: hooks that write tokens, scopes at the Hub, and Secrets in Kubernetes."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from ..backends.kubernetes.rbac import RIGHTS
from .finding import Finding, Level, error, warning
from .loading import is_library
from .setup import Setup

# A Spawner's hooks, and the methods that its own class may define.
_OF_SPAWNER = (
    *("pre_spawn_hook", "auth_state_hook", "run_pre_spawn_hook", "run_auth_state_hook"),
    *("get_env", "start"),
)


def check_hooks(setup: Setup) -> Iterator[Finding]:
    """The source of no hook has an environment and an auth_state in it."""
    hooks = [(setup.spawner, name) for name in _OF_SPAWNER]
    for owner, name in [*hooks, (setup.authenticator, "pre_spawn_start")]:
        hook = getattr(owner, name, None)
        place = f"{type(owner).__name__}.{name}" if inspect.ismethod(hook) else f"Spawner.{name}"
        while isinstance(hook, partial):
            hook = hook.func
        try:
            if hook is None or is_library(inspect.getsourcefile(inspect.unwrap(hook)) or ""):
                continue
            source = inspect.getsource(hook)
        except (OSError, TypeError):
            yield Finding("hooks", Level.NOTE, f"{place} was not looked at: it has no source here.")
            continue
        # The second argument of an auth_state_hook is the auth_state, whatever its name is.
        has_state = name == "auth_state_hook" or re.search("auth_state|access_token", source)
        if has_state and re.search(r"\benviron(ment)?\b|\benv\b", source):
            yield warning(
                "hook-writes-tokens",
                f"{place} has both an environment and an auth_state in its source.",
                "if it writes tokens, remove that, and name the variables in env of a spec",
            )


# Of a Spawner: the scopes that its server is given.
_TRAITS = ("server_token_scopes", "oauth_client_allowed_scopes")
_OF_AUTH_STATE = re.compile(r"admin:(auth_state|users)(!.*)?")  # the second includes the first


def check_servers_scopes(setup: Setup) -> Iterator[Finding]:
    """No server may read the auth_state of its user."""
    inherits = False
    for trait in _TRAITS:
        scopes = getattr(setup.spawner, trait, None)
        if callable(scopes):
            what = f"Spawner.{trait} is a function, which is not run: what it grants is not known."
            yield Finding("servers-scopes", Level.NOTE, what)
            continue
        inherits = inherits or "inherit" in (scopes or ())
        if found := _reading(scopes):
            yield error(
                "servers-read-auth-state",
                f"Spawner.{trait} grants {found} to servers.",
                f"remove {found} from {setup.place(setup.spawner, trait, 'Spawner')}",
            )
    yield from _check_roles(setup.app.load_roles, inherits)


def _check_roles(roles: list[dict[str, Any]], inherits: bool) -> Iterator[Finding]:
    of_server = [role for role in roles if role.get("name") == "server"]
    inherits = inherits or any("inherit" in (role.get("scopes") or ()) for role in of_server)
    for role in roles:
        name, found = role.get("name"), _reading(role.get("scopes"))
        fix = f"remove {found} from the role {name!r} in c.JupyterHub.load_roles"
        grants = f"The role {name!r} grants {found} to"
        if found and role in of_server:
            yield error("servers-read-auth-state", f"{grants} servers.", fix)
        elif found and inherits and (name == "user" or role.get("groups") or role.get("users")):
            what = f"{grants} users, and their servers inherit it."
            yield error("servers-read-auth-state", what, fix)
        elif found and name == "user":
            what = f"{grants} users, and so to the API tokens that they make."
            yield warning("servers-read-auth-state", what, fix)


def _reading(scopes: Any) -> str:
    """Those of the scopes with which auth_state can be read."""
    texts = (scope for scope in scopes or () if isinstance(scope, str))
    return ", ".join(scope for scope in texts if _OF_AUTH_STATE.fullmatch(scope))


_PATIENCE = 5  # seconds
_VERBS = RIGHTS["secrets"]


def check_rights(setup: Setup) -> Iterator[Finding]:
    """The Hub may do with Secrets what it has to."""
    if not setup.has_cluster:
        what = "Whether the Hub may keep Secrets was not asked: there is no cluster here."
        yield Finding("rights", Level.NOTE, what)
        return
    try:
        denied = asyncio.run(_find_denied(setup.spawner))
    except Exception as failure:
        yield error(
            "kubernetes-rights",
            f"The Kubernetes API does not answer here: {type(failure).__name__}.",
            "look at the Hub's service account, or at the kubeconfig that KUBECONFIG names",
        )
        return
    if denied:
        namespace, verbs = setup.spawner.namespace, ", ".join(_VERBS)
        yield error(
            "kubernetes-rights",
            f"The Hub may not {', '.join(denied)} Secrets in the namespace {namespace}.",
            "add this to the Hub's Role, as spawner-tokens rbac prints it:\n"
            f'{{apiGroups: [""], resources: [secrets], verbs: [{verbs}]}}',
        )


async def _find_denied(spawner: Any) -> list[str]:
    from kubernetes_asyncio import client

    denied = []
    async with client.ApiClient() as connection:  # as KubeSpawner has configured it
        api = client.AuthorizationV1Api(connection)
        for verb in _VERBS:
            asked = {"namespace": spawner.namespace, "verb": verb, "resource": "secrets"}
            spec = client.V1SelfSubjectAccessReviewSpec(
                resource_attributes=client.V1ResourceAttributes(group="", **asked)
            )
            review = client.V1SelfSubjectAccessReview(spec=spec)
            call = api.create_self_subject_access_review(review)
            if not (await asyncio.wait_for(call, _PATIENCE)).status.allowed:
                denied.append(verb)
    return denied
