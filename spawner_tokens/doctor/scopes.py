"""Checks of the scopes: what the login asks the provider for, and what servers may ask the Hub for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from .finding import Finding, Level, Setting, Words, error, warning
from .provider import NO_ID_TOKEN, is_app, name_provider, own_class
from .setup import Setup

_POWERFUL = re.compile(
    r"api|sudo|repo|admin_mode|admin(:.*)?|.*:admin|delete_repo|repository:delete|account:write|workflow"
    r"|(write|delete):packages|(create|manage)_runner|k8s_proxy|write_registry"
)


class _Least(NamedTuple):
    """The least scopes that will do: for the login with reading, and what pushing needs more."""

    read: tuple[str, ...]
    push: str
    note: str = ""


_LEAST = {
    "gitlab": _Least(("read_user", "read_repository"), "write_repository"),
    "github": _Least(
        ("read:user", "user:email"),
        "public_repo",
        'to read private repositories, a GitHub App with "Contents: read" instead, since an OAuth App has nothing less '
        'than "repo"',
    ),
    "bitbucket": _Least(("account", "repository"), "repository:write"),
}

# Scopes that a provider grants by another name, or without one: required, they would always be missing.
_GOOGLES = "https://www.googleapis.com/auth/userinfo"
_RENAMED: Mapping[str, Mapping[str, str | None]] = {
    "google": {"email": f"{_GOOGLES}.email", "profile": f"{_GOOGLES}.profile"},
    "azuread": {"offline_access": None},
}
# Of GitHub's, a scope names none that it has in it.
_PARTS = {
    **dict.fromkeys(("read:user", "user:email", "user:follow"), "user"),
    **dict.fromkeys(
        ("public_repo", "repo:status", "repo_deployment", "repo:invite", "security_events"), "repo"
    ),
}


def check_scopes(setup: Setup) -> Iterator[Finding]:
    """The login asks for the scopes that the tokens need, and for not much more."""
    yield from _find_contradictions(setup)
    asked = list(setup.authenticator.scope)
    if name_provider(setup) == "bitbucket" and not asked:
        return  # then it grants what the consumer is registered for
    is_gitlabs_default = name_provider(setup) == "gitlab" and not asked
    granted = _granted(setup)
    renamed = _renamed(setup)
    for spec in setup.of_login:
        if hidden := [scope for scope in spec.required_scopes if scope in renamed]:
            kept = [renamed.get(scope, scope) for scope in spec.required_scopes]
            yield error(
                "scopes-never-named",
                f"tokens[{spec.name!r}] requires {', '.join(hidden)}, which is not what its provider says that it granted.",
                "Each token has the status scope_missing, though it may do all that.",
                *setup.of_token(
                    spec.name, "required_scopes", [scope for scope in dict.fromkeys(kept) if scope]
                ),
            )
        known = (*granted, *spec.forbidden_scopes, *renamed)
        if missing := [scope for scope in spec.required_scopes if scope not in known]:
            yield error(
                "scopes-not-asked",
                f"tokens[{spec.name!r}] requires {', '.join(missing)}, which the login does not ask the provider for.",
                "Without being asked, a provider does not grant it: each token has the status scope_missing.",
                mend_scope(setup),
            )
        if forbidden := [scope for scope in spec.forbidden_scopes if scope in granted]:
            yield error(
                "scopes-forbidden-asked",
                f"tokens[{spec.name!r}] forbids {', '.join(forbidden)}, which the login asks the provider for.",
                "Each token has the status scope_forbidden, and is withheld.",
                mend_scope(setup),
            )
    if powerful := _powerful(setup):
        words = f"The login asks for more than most servers need: {', '.join(powerful)}."
        yield warning(
            "scopes-too-powerful",
            "The login asks for no scope, which at GitLab means api."
            if is_gitlabs_default
            else words,
            "Each notebook, and each library in it, may do all of that. The line below is the least for reading; "
            "required_scopes in a spec says that more is meant.",
            *_fix_powerful(setup),
        )


def _find_contradictions(setup: Setup) -> Iterator[Finding]:
    for spec in setup.specs:
        if both := [scope for scope in spec.required_scopes if scope in spec.forbidden_scopes]:
            yield error(
                "scopes-contradictory",
                f"tokens[{spec.name!r}] requires and forbids {', '.join(both)}.",
                "No token can be as asked: each has the status scope_forbidden or scope_missing.",
                *setup.of_token(
                    spec.name,
                    "required_scopes",
                    [each for each in spec.required_scopes if each not in both],
                ),
            )


def _fix_powerful(setup: Setup) -> Iterator[Setting | Words]:
    least = _LEAST.get(name_provider(setup))
    yield mend_scope(
        setup, f"to push as well, add {least.push!r}".replace("'", '"') if least else ""
    )
    if least and least.note:
        yield Words(least.note)


def mend_scope(setup: Setup, note: str = "") -> Setting:
    """The line for all findings about scopes: of several ones the last one wins, and undoes none."""
    authenticator = setup.authenticator
    return setup.setting(
        authenticator, "scope", want_scopes(setup), own_class(authenticator).__name__, note
    )


def want_scopes(setup: Setup) -> list[str]:
    """What the login should ask for: what it does, with the least that will do in place of what it should not."""
    authenticator, provider, asked = (
        setup.authenticator,
        name_provider(setup),
        list(setup.authenticator.scope),
    )
    forbidden = {scope for spec in setup.of_login for scope in spec.forbidden_scopes}
    without = {*forbidden, *_powerful(setup)}
    wanted = [scope for scope in asked if scope not in without]
    least = _LEAST.get(provider)
    if least and (not asked or not without.isdisjoint(asked)):
        wanted += least.read
        if any(
            getattr(authenticator, name, None)
            for name in ("allowed_gitlab_groups", "allowed_project_ids")
        ):
            wanted.append("read_api")  # by which the Hub asks for members
    elif not asked and provider in _OPENID and provider != "oidc":
        wanted += ["openid", "profile", "email"]
    wanted += [scope for spec in setup.of_login for scope in spec.required_scopes]
    if provider not in NO_ID_TOKEN and any(spec.key == "id_token" for spec in setup.specs):
        wanted.append("openid")
    if needs_offline_access(setup, wanted):
        wanted.append("offline_access")
    nothing = (
        [] if provider == "oidc" and not asked else ["openid"]
    )  # at GitLab, an empty list is api
    return [scope for scope in dict.fromkeys(wanted) if scope not in forbidden] or nothing


_OPENID = ("azuread", "auth0", "cilogon", "oidc")


def needs_offline_access(setup: Setup, scopes: Sequence[str]) -> bool:
    """Whether the provider gives a refresh token only for this scope, to a login that asks for these ones."""
    if not setup.of_login or not setup.spawner.tokens_renew:
        return False
    provider = name_provider(setup)
    # Plain OAuth 2: providers give one unasked, or not at all.
    return provider in _OPENID and (provider != "oidc" or "openid" in scopes)


def _granted(setup: Setup) -> list[str]:
    asked = list(setup.authenticator.scope) or (["api"] if name_provider(setup) == "gitlab" else [])
    renamed = _renamed(setup)
    return [*asked, *(renamed[scope] or scope for scope in asked if scope in renamed)]


def _renamed(setup: Setup) -> Mapping[str, str | None]:
    """Scope → what a login at this provider gets in its place."""
    asked, provider = list(setup.authenticator.scope), name_provider(setup)
    if provider != "github":
        return _RENAMED.get(provider, {})
    if is_app(setup.authenticator.client_id):
        return dict.fromkeys(scope for spec in setup.of_login for scope in spec.required_scopes)
    return {part: whole for part, whole in _PARTS.items() if whole in asked}


def _powerful(setup: Setup) -> list[str]:
    """The scopes that are too much, and that no spec speaks of."""
    known = {
        scope for spec in setup.specs for scope in (*spec.required_scopes, *spec.forbidden_scopes)
    }
    powerful = [
        scope for scope in _granted(setup) if _POWERFUL.fullmatch(scope) and scope not in known
    ]
    return powerful if setup.specs else []


# Of a Spawner: the scopes that its server is given.
_TRAITS = ("server_token_scopes", "oauth_client_allowed_scopes")
_OF_AUTH_STATE = re.compile(
    r"admin:(auth_state|users)(!.*)?"
)  # the second one has the first one in it


def check_servers_scopes(setup: Setup) -> Iterator[Finding]:
    """No server may read the auth_state of its user."""
    why = "It hands the refresh token to all user code: who has it has the login."
    for trait in _TRAITS:
        scopes = getattr(setup.spawner, trait, None)
        if callable(scopes):
            what = f"What Spawner.{trait} grants to servers is not known: it is a function, and not run."
            yield Finding("servers-scopes", Level.OK, what)
        elif scopes and (found := _reading(scopes)):
            kept = [scope for scope in scopes if scope not in found]
            yield error(
                "servers-read-auth-state",
                f"Spawner.{trait} grants {', '.join(found)} to servers.",
                why,
                setup.setting(setup.spawner, trait, kept, "Spawner"),
            )
    roles: list[Mapping[str, Any]] = list(setup.app.load_roles)
    if inherits := any("inherit" in scopes for scopes in _of_servers(setup, roles)):
        yield warning(
            "servers-inherit",
            "Servers inherit all scopes of their users: those of admins have admin:users.",
            "Code in an admin's server reads the auth_state of everybody, with the refresh tokens in it.",
            Words('in place of "inherit", name the scopes that servers need'),
        )
    mended = [_without_auth_state(role, inherits) for role in roles]
    place = ("JupyterHub", "load_roles")
    for role, better in zip(roles, mended):
        if role == better:
            continue
        what = f"The role {role.get('name')!r} in load_roles grants {', '.join(_reading(role['scopes']))}"
        if role.get("name") == "server":
            yield error(
                "servers-read-auth-state",
                f"{what}, which servers get.",
                why,
                Setting(place, mended),
            )
        elif inherits:
            fix = Setting(place, mended, 'or let no servers "inherit"')
            yield error(
                "servers-read-auth-state",
                f"{what} to users, and their servers inherit it.",
                why,
                fix,
            )
        else:
            yield warning(
                "servers-read-auth-state",
                f"{what}: to users, and to their own tokens.",
                "A user who makes an API token and takes it into a server has the refresh token there; servers themselves "
                "have not, unless their scopes inherit the user's.",
                Setting(place, mended),
            )


def _of_servers(setup: Setup, roles: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[str]]:
    """The lists of scopes that servers get."""
    for trait in _TRAITS:
        scopes = getattr(setup.spawner, trait, None)
        if isinstance(scopes, (list, tuple)):
            yield scopes
    yield from (role.get("scopes") or () for role in roles if role.get("name") == "server")


def _without_auth_state(role: Mapping[str, Any], inherits: bool) -> Mapping[str, Any]:
    is_of_users = inherits and (role.get("groups") or role.get("users"))
    found = (
        _reading(role.get("scopes") or ())
        if is_of_users or role.get("name") in ("server", "user")
        else []
    )
    return (
        {**role, "scopes": [scope for scope in role["scopes"] if scope not in found]}
        if found
        else role
    )


def _reading(scopes: Any) -> list[str]:
    return [scope for scope in scopes if isinstance(scope, str) and _OF_AUTH_STATE.fullmatch(scope)]
