"""The record: what a server was started with, for the Hub that finds it running.

Group overrides and hooks are not run again then. A function that they set is not known any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .fields import SHARED_POLICIES, SpecError
from .spec import TokenSpec, parse_token

# In a record, a dict with this key alone is a function: its name, or null if an override set it.
_FUNCTION = "<function>"
_LOST = {_FUNCTION: None}

Path = tuple[str, ...]

# The traits that are recorded, since overrides of them are not made again.
RECORDED = ("tokens", "tokens_hook", "tokens_renew", "tokens_shared", "tokens_pull")


@dataclass(frozen=True)
class Started:
    """What a server was started with: ``specs``, and the traits ``tokens_hook`` and so on.

    ``unknown``: the name of a token that cannot be selected as at the start → why not. ``pull``:
    whether the server may ask the Hub for its tokens.
    """

    specs: tuple[TokenSpec, ...] = ()
    hook: Callable[..., Any] | None = None
    renews: bool = True
    unknown: Mapping[str, str] = field(default_factory=dict)
    shared: str = "withhold"
    pull: bool = False


def find_functions(node: Any, path: Path = ()) -> dict[Path, Callable[..., Any]]:
    """All functions in the traits that decide what a server gets: path → function.

    ``node``: a dict of :data:`RECORDED`, or a part of it at this path.
    """
    if callable(node):
        return {path: node}
    found: dict[Path, Callable[..., Any]] = {}
    if isinstance(node, Mapping):
        for key, value in node.items():
            found |= find_functions(value, (*path, key))
    return found


def make_record(node: Any, functions: Mapping[Path, Callable[..., Any]], path: Path = ()) -> Any:
    """The same traits for a Spawner's state. ``functions`` are those of the Hub's configuration."""
    if callable(node):
        return {_FUNCTION: _name(node)} if functions.get(path) == node else _LOST
    if isinstance(node, Mapping):
        return {key: make_record(node[key], functions, (*path, key)) for key in node}
    return sorted(node) if isinstance(node, (set, frozenset)) else node


def read_record(
    record: Any,
    tokens: Iterable[str],
    functions: Mapping[Path, Callable[..., Any]],
    *,
    files: bool,
) -> Started:
    """What was recorded by :func:`make_record`.

    ``tokens`` (their names) and ``functions`` are those of the Hub's configuration now. ``files``:
    see :func:`.parse_token`.
    """
    is_ours = isinstance(record, Mapping) and record.keys() == {*RECORDED}
    if not is_ours or not isinstance(record["tokens"], Mapping):
        why = "the Hub does not know what the server was started with"
        return Started(renews=False, unknown=dict.fromkeys(tokens, why))
    renews, shared = record["tokens_renew"] is True, record["tokens_shared"]
    shared = shared if shared in SHARED_POLICIES else Started.shared
    pull = record["tokens_pull"] is True
    try:
        hook = _restore(record["tokens_hook"], functions, ("tokens_hook",))
    except KeyError as lost:
        unknown = dict.fromkeys(record["tokens"], _describe(lost))
        return Started(renews=renews, unknown=unknown, shared=shared, pull=pull)
    specs, unknown = [], {}
    for name, fields in record["tokens"].items():
        try:
            restored = _restore(fields, functions, ("tokens", name))
            specs.append(parse_token(name, restored, files=files))
        except KeyError as lost:
            unknown[name] = _describe(lost)
        except SpecError as error:
            unknown[name] = str(error)
    return Started(tuple(specs), hook, renews, unknown, shared, pull)


def _restore(node: Any, functions: Mapping[Path, Callable[..., Any]], path: Path) -> Any:
    """Raises :exc:`KeyError` with the path of a function that is not there any more."""
    if not isinstance(node, Mapping):
        return node
    if node.keys() != {_FUNCTION}:
        return {key: _restore(value, functions, (*path, key)) for key, value in node.items()}
    function = functions.get(path)
    if function is None or _name(function) != node[_FUNCTION]:
        raise KeyError(path)
    return function


def _describe(lost: KeyError) -> str:
    path: Path = lost.args[0]
    return f"{'.'.join(path[2:] or path)} was a function that the Hub's configuration does not have"


def _name(function: Callable[..., Any]) -> str:
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"
