"""Checks of what profiles and groups override in a Spawner, after its config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..tokens.fields import SpecError
from ..tokens.spec import parse_tokens
from .finding import Finding, Level, Words, error, warning
from .setup import Setup


def has_overrides(setup: Setup) -> bool:
    return any(getattr(setup.spawner, trait, None) for trait in ("profile_list", "group_overrides"))


def check_overrides(setup: Setup) -> Iterator[Finding]:
    """No profile and no group spoils a token."""
    unread = []
    for place, override in _list_overrides(setup.spawner):
        if callable(override):
            unread.append(place)
        elif isinstance(override, Mapping):
            unread += [
                f"{trait} of {place}"
                for trait in ("environment", "tokens")
                if callable(override.get(trait))
            ]
            yield from _check(setup, place, override)
    if unread:
        yield Finding(
            "overrides", Level.OK, f"Not looked at, since a function makes it: {', '.join(unread)}."
        )


def _list_overrides(spawner: Any) -> Iterator[tuple[str, Any]]:
    """Each override with its place; of those that a function makes, the function."""
    profiles = getattr(spawner, "profile_list", None) or ()
    if callable(profiles):
        yield "profile_list", profiles
    else:
        for profile in profiles:
            name = f"the profile {profile.get('display_name')!r}"
            yield name, profile.get("kubespawner_override")
            for option, choices in (profile.get("profile_options") or {}).items():
                for choice, node in {
                    **(choices.get("choices") or {}),
                    "…": choices.get("unlisted_choice") or {},
                }.items():
                    yield (
                        f"the choice {option}: {choice} of {name}",
                        node.get("kubespawner_override"),
                    )
    groups = getattr(spawner, "group_overrides", None) or {}
    if callable(groups):
        yield "group_overrides", groups
    else:
        for name, node in groups.items():
            yield f"group_overrides[{name!r}]", node.get("spawner_override")


def _check(setup: Setup, place: str, override: Mapping[str, Any]) -> Iterator[Finding]:
    tokens, specs = override.get("tokens"), setup.specs
    if tokens is not None and not callable(tokens) and not setup.spec_errors:
        try:
            specs = parse_tokens(
                _merge(setup.tokens, tokens), files=setup.spawner._delivers_files()
            )
        except SpecError as problem:
            what, _, how = str(problem).partition("; ")
            why = "The server of a user who has it does not start."
            yield error("spec-wrong", f"In {place}: {what}.", why, Words(how or "mend it there"))
            return
    environment = override.get("environment")
    if not isinstance(environment, Mapping):
        return
    for spec in specs:
        for variable in spec.claims:
            if environment.get(variable) is not None:  # null takes it away
                yield warning(
                    "environment-wins",
                    f"tokens[{spec.name!r}] wants to set {variable}, and so does {place}.",
                    "What the admin sets wins: servers find that in the variable, and not what the token sets.",
                    Words(f"remove {variable} from the environment of {place}"),
                )


def _merge(node: Any, override: Any) -> Any:
    """As JupyterHub does it: ``None`` takes away."""
    if not isinstance(node, Mapping) or not isinstance(override, Mapping):
        return override
    merged = dict(node)
    for key, value in override.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key, {}), value)
    return merged
