"""Checks of servers: hooks that write tokens, scopes at the Hub, and Secrets in Kubernetes."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from ..backends.kubernetes.rbac import RIGHTS
from ..tokens.guard import is_withheld
from .finding import Finding, error, not_looked_at, warning
from .loading import is_library
from .setup import Setup

# A Spawner's hooks, and the methods that its own class may define.
_OF_SPAWNER = (
    *("pre_spawn_hook", "auth_state_hook", "run_pre_spawn_hook", "run_auth_state_hook"),
    *("get_env", "start"),
)


def check_hooks(setup: Setup) -> Iterator[Finding]:
    """The source of no hook has an environment and an auth_state in it."""
    if getattr(setup.spawner, "tokens_hook", None) is not None:
        yield not_looked_at("hooks", "what tokens_hook gives: the Hub's log says if it is dead")
    hooks = [(setup.spawner, name) for name in _OF_SPAWNER]
    of_login = [(setup.authenticator, name) for name in ("pre_spawn_start", "pre_spawn_hook")]
    for owner, name in [*hooks, *of_login]:
        hook = getattr(owner, name, None)
        is_own = inspect.ismethod(hook) or owner is setup.authenticator
        place = f"{type(owner).__name__ if is_own else 'Spawner'}.{name}"
        while isinstance(hook, partial):
            hook = hook.func
        try:
            if hook is None or is_library(inspect.getsourcefile(inspect.unwrap(hook)) or ""):
                continue
            source = inspect.getsource(hook)
        except (OSError, TypeError):
            yield not_looked_at("hooks", f"{place}, which has no source here")
            continue
        # The second argument of an auth_state_hook is the auth_state, whatever its name is.
        has_state = name == "auth_state_hook" or re.search("auth_state|access_token", source)
        if has_state and re.search(r"\benviron(ment)?\b|\benv\b", source):
            what = f"{place} has both an environment and an auth_state in its source."
            fix = "if it writes tokens, remove that, and name the variables in env of a spec"
            yield warning("hook-writes-tokens", what, fix)


# Of a Spawner: the scopes that its server is given.
_TRAITS = ("server_token_scopes", "oauth_client_allowed_scopes")
_OF_AUTH_STATE = re.compile(r"admin:(auth_state|users)(!.*)?")  # the second includes the first


def check_servers_scopes(setup: Setup) -> Iterator[Finding]:
    """No server may read the auth_state of its user."""
    inherits = False
    for trait in _TRAITS:
        scopes = getattr(setup.spawner, trait, None)
        if callable(scopes):
            yield not_looked_at("servers-scopes", f"Spawner.{trait}, a function")
            continue
        inherits = inherits or "inherit" in (scopes or ())
        if found := _reading(scopes):
            fix = f"remove {found} from {setup.place(setup.spawner, trait, 'Spawner')}"
            yield error("servers-read-auth-state", f"Spawner.{trait} grants {found}.", fix)
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


# With !user, a user's own servers alone.
_LETS_IN = re.compile(r"access:servers(!(?!user$).*)?")


def check_access(setup: Setup) -> Iterator[Finding]:
    """No role lets others into a server, which no share would tell."""
    tokens_shared = setup.spawner.tokens_shared
    names = [spec.name for spec in setup.specs if is_withheld(spec, tokens_shared)]
    for role in setup.app.load_roles if names else ():
        texts = (scope for scope in role.get("scopes") or () if isinstance(scope, str))
        if found := ", ".join(scope for scope in texts if _LETS_IN.fullmatch(scope)):
            what = (
                f"The role {role.get('name')!r} grants {found}: who has it can use the tokens "
                f"{', '.join(names)} there, as no share says that the server is shared."
            )
            fix = f"remove {found} from it in c.JupyterHub.load_roles, and let users share servers"
            yield warning("role-lets-others-in", what, fix)


_PATIENCE = 5  # seconds
_VERBS = RIGHTS["secrets"]


def check_rights(setup: Setup) -> Iterator[Finding]:
    """The Hub may do with Secrets what it has to."""
    if not setup.has_cluster:
        yield not_looked_at("rights", "what Kubernetes allows the Hub: there is no cluster here")
        return
    try:
        denied = asyncio.run(_find_denied(setup.spawner))
    except Exception as failure:
        what = f"The Kubernetes API does not answer here: {type(failure).__name__}."
        fix = "look at the Hub's service account, or at the kubeconfig that KUBECONFIG names"
        yield error("kubernetes-rights", what, fix)
        return
    if denied:
        namespace, verbs = setup.spawner.namespace, ", ".join(_VERBS)
        what = f"The Hub may not {', '.join(denied)} Secrets in the namespace {namespace}."
        rule = f'{{apiGroups: [""], resources: [secrets], verbs: [{verbs}]}}'
        fix = f"add this to the Hub's Role, as spawner-tokens rbac prints it:\n{rule}"
        yield error("kubernetes-rights", what, fix)


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
