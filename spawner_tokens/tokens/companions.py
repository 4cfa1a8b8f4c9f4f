"""The companions: what goes with a token, and does not have it in it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .lookup import Contents, Key, KeyFailed, holds_tokens, is_deliverable, is_longer
from .spec import TokenSpec

# MAX_ARG_STRLEN of Linux: the most that one `NAME=value` may have, with its NUL byte.
_LONGEST_VARIABLE = 131072

_TOO_LONG = "it is longer than the 128 KiB that a variable can carry"

# What git removes from both ends of a name (ident.c): it refuses one that has nothing else.
_NO_NAME = "".join(map(chr, range(33))) + ".,:;<>\"\\'"


def find_companions(spec: TokenSpec, contents: Contents, value: str) -> dict[str, Any]:
    """Fields of a :class:`~spawner_tokens.tokens.selection.Token` with this value."""
    companions, omitted = _find_texts(spec.variables, contents, value)
    identity, _ = _find_texts(spec.git_identity, contents, value, objects=False)
    return {
        "companions": {**companions, **spec.settings},
        "omitted": omitted,
        "identity": {name: text for name, text in identity.items() if text.strip(_NO_NAME)},
    }


def _find_texts(
    keys: Mapping[str, Key], contents: Contents, token: str, *, objects: bool = True
) -> tuple[dict[str, str], dict[str, str]]:
    """Variable → text, and variable → why it has none that can be delivered.

    A value that is not a text becomes JSON. Lists and dicts are left out unless ``objects``.
    Each text is made once and serves all specs and servers.
    """
    texts, omitted = {}, {}
    for variable, key in keys.items():
        known = id(key) if callable(key) else key, token
        if known not in contents.companions:
            contents.companions[known] = _make_companion(key, contents, token)
        text, problem, is_object = contents.companions[known]
        if not problem and not fits(variable, text):
            problem = _TOO_LONG
        if problem or (is_object and not objects):
            omitted[variable] = problem
        else:
            texts[variable] = text
    return texts, omitted


def _make_companion(key: Key, contents: Contents, token: str) -> tuple[str, str, bool]:
    """The text, why it cannot be delivered (empty if it can), and whether it is a list or dict."""
    try:
        value = contents.find(key)
        is_object = not isinstance(value, (str, bool, int, float))
        if is_object and is_longer(value, _LONGEST_VARIABLE):
            return "", _TOO_LONG, True
        text = value if isinstance(value, str) else json.dumps(value, allow_nan=False)
        return text, _find_problem(value, text, contents, token), is_object
    except KeyFailed as failed:
        return "", f"its key, a function, {failed}", False
    except (TypeError, ValueError, RecursionError):
        return "", f"JSON has no form for the {type(value).__name__} that its key finds", False


def _find_problem(value: Any, text: str, contents: Contents, token: str) -> str:
    """Why a companion cannot be delivered; empty if it can."""
    if value is None or value == "":
        return "its key finds nothing"
    if not is_deliverable(text):
        return "it has a NUL byte or a lone surrogate, which no variable can carry"
    if holds_tokens([value, text], token, contents):
        return "there is a token in it, which is no companion value"
    return ""


def fits(variable: str, text: str) -> bool:
    """Whether this variable can carry this text."""
    return len(f"{variable}={text}".encode()) < _LONGEST_VARIABLE
