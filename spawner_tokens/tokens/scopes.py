"""The scopes that an authenticator asks for, and those that a provider's scopes imply."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# A scope → those that it has in it, though the provider does not name them.
_IMPLIED_SCOPES: Mapping[str, str] = {
    # https://docs.github.com/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps
    "repo": "repo:status repo_deployment public_repo repo:invite security_events admin:repo_hook",
    "admin:repo_hook": "write:repo_hook",
    "write:repo_hook": "read:repo_hook",
    "admin:org": "write:org manage_runners:org",
    "write:org": "read:org",
    "admin:public_key": "write:public_key",
    "write:public_key": "read:public_key",
    "user": "read:user user:email user:follow",
    "project": "read:project",
    "write:packages": "read:packages",
    "write:discussion": "read:discussion",
    "admin:gpg_key": "write:gpg_key",
    "write:gpg_key": "read:gpg_key",
    "admin:ssh_signing_key": "write:ssh_signing_key",
    "write:ssh_signing_key": "read:ssh_signing_key",
    "admin:enterprise": "manage_runners:enterprise manage_billing:enterprise read:enterprise",
    "audit_log": "read:audit_log",
    "codespace": "codespace:secrets",
    "copilot": "manage_billing:copilot",
    "write:network_configurations": "read:network_configurations",
    # https://docs.gitlab.com/integration/oauth_provider/#view-all-authorized-applications
    "api": (
        "read_api write_repository write_registry write_virtual_registry create_runner "
        "manage_runner k8s_proxy ai_features read_observability write_observability"
    ),
    "read_api": "read_user read_repository read_registry read_virtual_registry",
    "write_repository": "read_repository",
}


def imply_scopes(scopes: Iterable[str]) -> set[str]:
    """These scopes, and those that they have in them at GitHub and GitLab."""
    found: set[str] = set()
    left = list(scopes)
    while left:
        scope = left.pop()
        found.add(scope)
        left += set(_IMPLIED_SCOPES.get(scope, "").split()) - found
    return found


def find_requested_scopes(authenticator: Any) -> Iterable[str] | None:
    """The scopes that the authenticator asks the provider for; ``None`` if that is not known."""
    scope = getattr(authenticator, "scope", None)
    return scope if isinstance(scope, (list, tuple, set)) else None
