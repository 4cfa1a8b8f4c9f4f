"""Checks of the scopes: of the login at the provider, and of servers at the Hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .finding import Finding, Level, error, warning
from .provider import name_provider, own_class
from .setup import Setup

_POWERFUL = re.compile(
    r"api|sudo|repo|admin_mode|admin(:.*)?|.*:admin|delete_repo|repository:delete|account:write"
    r"|workflow|(write|delete):packages|(create|manage)_runner|k8s_proxy|write_registry"
)
# The least scopes for reading.
_LEAST = {
    "gitlab": ["read_user", "read_repository"],
    "github": ["read:user", "user:email"],
    "bitbucket": ["account", "repository"],
}
_GOOGLES = "https://www.googleapis.com/auth/userinfo."  # as which Google grants email and profile


def check_scopes(setup: Setup) -> Iterator[Finding]:
    """The login asks for the scopes that the tokens need, and for not much more."""
    provider, asked = name_provider(setup), list(setup.authenticator.scope)
    if provider == "bitbucket" and not asked:  # it grants what the consumer is registered for
        return
    granted = asked or (["api"] if provider == "gitlab" else [])
    if provider == "google":
        granted = [*granted, *(_GOOGLES + scope for scope in asked)]
    cls = own_class(setup.authenticator).__name__
    place = setup.place(setup.authenticator, "scope", cls)
    for spec in setup.of_login:
        if missing := ", ".join(each for each in spec.required_scopes if each not in granted):
            yield error(
                "scopes-not-asked",
                f"tokens[{spec.name!r}] requires {missing}, and the login does not ask for it.",
                f"add {missing} to {place}, or remove it from required_scopes",
            )
        if forbidden := ", ".join(each for each in spec.forbidden_scopes if each in granted):
            yield error(
                "scopes-forbidden-asked",
                f"tokens[{spec.name!r}] forbids {forbidden}, and the login asks for it.",
                f"remove {forbidden} from {place}, or from forbidden_scopes",
            )
    known = {
        each for spec in setup.specs for each in (*spec.required_scopes, *spec.forbidden_scopes)
    }
    powerful = [each for each in granted if _POWERFUL.fullmatch(each) and each not in known]
    if powerful and setup.specs:
        listed, fix = ", ".join(powerful), f"remove {', '.join(powerful)} from {place}"
        if least := _LEAST.get(provider):
            line = setup.setting(setup.authenticator, "scope", least, cls)
            fix = f"{line}  # for reading"
        yield warning(
            "scopes-too-powerful",
            f"The login asks for more than most servers need: {listed}."
            if asked
            else "The login asks for no scope, which at GitLab means api.",
            f"{fix}\nor name what servers need in required_scopes of a spec",
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
    inherits = inherits or any(
        "inherit" in (role.get("scopes") or ()) for role in roles if role.get("name") == "server"
    )
    for role in roles:
        name, found = role.get("name"), _reading(role.get("scopes"))
        is_of_users = name == "user" or role.get("groups") or role.get("users")
        fix = f"remove {found} from the role {name!r} in c.JupyterHub.load_roles"
        if found and name == "server":
            yield error(
                "servers-read-auth-state", f"The role 'server' grants {found} to servers.", fix
            )
        elif found and is_of_users and inherits:
            what = f"The role {name!r} grants {found} to users, and their servers inherit it."
            yield error("servers-read-auth-state", what, fix)
        elif found and name == "user":
            what = f"The role 'user' grants {found} to users, and so to the API tokens they make."
            yield warning("servers-read-auth-state", what, fix)


def _reading(scopes: Any) -> str:
    """Those of the scopes with which auth_state can be read."""
    texts = (scope for scope in scopes or () if isinstance(scope, str))
    return ", ".join(scope for scope in texts if _OF_AUTH_STATE.fullmatch(scope))
