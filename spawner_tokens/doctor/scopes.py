"""Checks of the scopes: what the login asks the provider for, and what servers may ask the Hub for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .finding import Finding, Setting, Words, error, warning
from .provider import name_provider, own_class
from .setup import Setup

_POWERFUL = re.compile(r"api|sudo|repo|admin_mode|admin(:.*)?|.*:admin|delete_repo|repository:delete|account:write")


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


def check_scopes(setup: Setup) -> Iterator[Finding]:
    """The login asks for the scopes that the tokens need, and for not much more."""
    authenticator = setup.authenticator
    cls, asked = own_class(authenticator).__name__, list(authenticator.scope)
    if name_provider(setup) == "bitbucket" and not asked:
        return  # then it grants what the consumer is registered for
    is_gitlabs_default = name_provider(setup) == "gitlab" and not asked
    granted = ["api"] if is_gitlabs_default else asked
    for spec in setup.of_login:
        if missing := [scope for scope in spec.required_scopes if scope not in granted]:
            yield error(
                "scopes-not-asked",
                f"tokens[{spec.name!r}] requires {', '.join(missing)}, which the login does not ask the provider for.",
                "Without being asked, a provider does not grant it: each token has the status scope_missing.",
                setup.setting(authenticator, "scope", _least(setup, asked, []), cls),
            )
        if forbidden := [scope for scope in spec.forbidden_scopes if scope in granted]:
            least = _least(setup, asked, forbidden)
            yield error(
                "scopes-forbidden-asked",
                f"tokens[{spec.name!r}] forbids {', '.join(forbidden)}, which the login asks the provider for.",
                "Each token has the status scope_forbidden, and is withheld.",
                setup.setting(authenticator, "scope", least, cls),
            )
    known = {scope for spec in setup.specs for scope in (*spec.required_scopes, *spec.forbidden_scopes)}
    powerful = [scope for scope in granted if _POWERFUL.fullmatch(scope) and scope not in known]
    if powerful and setup.specs:
        words = f"The login asks for more than most servers need: {', '.join(powerful)}."
        yield warning(
            "scopes-too-powerful",
            "The login asks for no scope, which at GitLab means api." if is_gitlabs_default else words,
            "Each notebook, and each library in it, may do all of that. The line below is the least for reading; "
            "required_scopes in a spec says that more is meant.",
            *_fix_powerful(setup, asked, powerful, cls),
        )


def _fix_powerful(setup: Setup, asked: list[str], powerful: list[str], cls: str) -> Iterator[Setting | Words]:
    least = _LEAST.get(name_provider(setup))
    note = f"to push as well, add {least.push!r}".replace("'", '"') if least else ""
    yield setup.setting(setup.authenticator, "scope", _least(setup, asked, powerful), cls, note)
    if least and least.note:
        yield Words(least.note)


def _least(setup: Setup, asked: list[str], without: list[str]) -> list[str]:
    """The scopes that are asked for and required, with the least that will do in place of some."""
    kept = [scope for scope in asked if scope not in without]
    least = _LEAST.get(name_provider(setup))
    if least and (without or not asked):
        kept += [scope for scope in least.read if scope not in (*kept, *without)]
        if any(getattr(setup.authenticator, name, None) for name in ("allowed_gitlab_groups", "allowed_project_ids")):
            kept.append("read_api")  # by which the Hub asks for members
    required = [scope for spec in setup.of_login for scope in spec.required_scopes]
    kept += [scope for scope in required if scope not in without]
    return list(dict.fromkeys(kept)) or ["openid"]


_OF_AUTH_STATE = re.compile(r"admin:(auth_state|users)(!.*)?")  # the second one has the first one in it


def check_servers_scopes(setup: Setup) -> Iterator[Finding]:
    """No server may read the auth_state of its user."""
    why = "It hands the refresh token to all user code: who has it has the login."
    for trait in ("server_token_scopes", "oauth_client_allowed_scopes"):
        scopes = getattr(setup.spawner, trait, None)
        if isinstance(scopes, (list, tuple)) and (found := _reading(scopes)):
            kept = [scope for scope in scopes if scope not in found]
            yield error(
                "servers-read-auth-state",
                f"Spawner.{trait} grants {', '.join(found)} to servers.",
                why,
                setup.setting(setup.spawner, trait, kept, "Spawner"),
            )
    roles: list[Mapping[str, Any]] = list(setup.app.load_roles)
    for role in roles:
        if role.get("name") in ("server", "user") and (found := _reading(role.get("scopes") or ())):
            kept = [scope for scope in role["scopes"] if scope not in found]
            mended = [{**each, "scopes": kept} if each is role else each for each in roles]
            yield error(
                "servers-read-auth-state",
                f"The role {role['name']!r} in load_roles grants {', '.join(found)}, which servers get.",
                why,
                Setting(("JupyterHub", "load_roles"), mended),
            )


def _reading(scopes: Any) -> list[str]:
    return [scope for scope in scopes if isinstance(scope, str) and _OF_AUTH_STATE.fullmatch(scope)]
