"""The record: what a server was started with, for the Hub that finds it running.

Group overrides and hooks are not run again then. A function that they set is not known any more,
nor is a client's secret: it is never recorded, and taken from the Hub's configuration again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .fields import SHARED_POLICIES, SpecError
from .spec import TokenSpec, link, parse_token

# In a record, a dict with this key alone is a function or a client's secret: its name, or null if
# an override set it.
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


@dataclass(frozen=True)
class _Secret:
    """A client's secret. Its name in a record says whose it is: it is sent to nobody else."""

    text: Any = field(repr=False)
    client_id: Any
    token_url: Any


# What a record has by name.
_Named = Callable[..., Any] | _Secret


def find_functions(node: Any, path: Path = ()) -> dict[Path, _Named]:
    """All functions and secrets in the traits that decide what a server gets, by their paths.

    ``node``: a dict of :data:`RECORDED`, or a part of it at this path.
    """
    if callable(node) or isinstance(node, _Secret):
        return {path: node}
    found: dict[Path, _Named] = {}
    for key, value in _list_children(node, path):
        found |= find_functions(value, (*path, key))
    return found


def make_record(node: Any, functions: Mapping[Path, _Named], path: Path = ()) -> Any:
    """The same traits for a Spawner's state. ``functions`` are those of the Hub's configuration."""
    if callable(node) or isinstance(node, _Secret):
        return {_FUNCTION: _name(node)} if functions.get(path) == node else _LOST
    if isinstance(node, Mapping):
        children = _list_children(node, path)
        return {key: make_record(value, functions, (*path, key)) for key, value in children}
    return sorted(node) if isinstance(node, (set, frozenset)) else node


def _list_children(node: Any, path: Path) -> Iterable[tuple[str, Any]]:
    if not isinstance(node, Mapping):
        return ()
    if path[:1] + path[2:] == ("tokens", "exchange") and node.get("client_secret") is not None:
        secret = _Secret(node["client_secret"], node.get("client_id"), node.get("token_url"))
        return {**node, "client_secret": secret}.items()
    return node.items()


def read_record(
    record: Any,
    tokens: Iterable[str],
    functions: Mapping[Path, _Named],
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
    parsed, specs, unknown = {}, [], {}
    for name, fields in record["tokens"].items():
        try:
            restored = _restore(fields, functions, ("tokens", name))
            parsed[name] = parse_token(name, restored, files=files, pull=pull)
        except KeyError as lost:
            unknown[name] = _describe(lost)
        except SpecError as error:
            unknown[name] = str(error)
    for name, spec in parsed.items():
        try:
            specs.append(link(spec, parsed))
        except SpecError as error:
            unknown[name] = str(error)
    return Started(tuple(specs), hook, renews, unknown, shared, pull)


def _restore(node: Any, functions: Mapping[Path, _Named], path: Path) -> Any:
    """Raises :exc:`KeyError` with the path of what is not there any more."""
    if not isinstance(node, Mapping):
        return node
    if node.keys() != {_FUNCTION}:
        return {key: _restore(value, functions, (*path, key)) for key, value in node.items()}
    function = functions.get(path)
    if function is None or _name(function) != node[_FUNCTION]:
        raise KeyError(path)
    return function.text if isinstance(function, _Secret) else function


def _describe(lost: KeyError) -> str:
    path: Path = lost.args[0]
    what = "is a secret" if path[-1] == "client_secret" else "was a function"
    return f"{'.'.join(path[2:] or path)} {what} that the Hub's configuration does not have"


def _name(function: _Named) -> str:
    if isinstance(function, _Secret):
        return f"client_secret of {function.client_id} at {function.token_url}"
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"
