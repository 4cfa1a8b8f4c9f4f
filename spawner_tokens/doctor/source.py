"""Functions, read by their source and never run: what a hook does with tokens and an environment, itself or by helpers."""

from __future__ import annotations

import ast
import builtins
import inspect
import linecache
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

from .loading import is_library

TOKENS = ("access_token", "id_token", "refresh_token", "token_response")
_SOURCES = ("auth_state", *TOKENS)

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_PLAIN = (*_DEFINITIONS[:2], ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr, ast.If, ast.Pass, ast.Return)
_ASKING = {"get_auth_state", "get", *vars(builtins)} - {"exec", "eval", "open", "print", "setattr", "delattr"}


@dataclass(frozen=True)
class Write:
    """A variable that is set in an environment, ``…`` if its name is not known; ``line`` with the file, if another one."""

    variable: str
    line: str
    is_token: bool


@dataclass
class Seen:
    """What a hook does: ``does_more`` than to write into an environment, ``unread`` are functions without a source."""

    line: int = 0
    reads: tuple[str, ...] = ()
    writes: list[Write] = field(default_factory=list)
    does_more: bool = False
    unread: list[str] = field(default_factory=list)


@dataclass
class _Page:
    """A function, the object that it is a method of, and the names that it has for an environment."""

    function: Any
    owner: Any = None
    environments: set[str] = field(default_factory=lambda: {"environment"})


def look_at(hook: Callable[..., Any]) -> Seen:
    """What a hook does with tokens and an environment, and the functions that it calls, unless they are a library's."""
    seen = Seen()
    names: set[str] = set()
    pages = list(_unwrap(hook))
    home = pages[0].function
    known = set()
    for page in pages:  # which grows
        function = page.function
        if (key := (id(function), frozenset(page.environments))) in known:
            continue
        known.add(key)
        nodes = _parse(function) if isinstance(function, FunctionType) else []
        if not nodes:
            seen.unread.append(getattr(function, "__qualname__", type(function).__name__))
            continue
        seen.line = seen.line or function.__code__.co_firstlineno
        names.update(name for node in nodes for name in _names(node))
        page.environments |= {name for node in nodes for name in _assigned(node, _is_plain_environment)}
        secrets = {name for node in nodes for name in _assigned(node, _has_token)}
        calls = {node: list(_follow(page, node, home)) for node in nodes if isinstance(node, ast.Call)}
        pages += [callee for callees in calls.values() for callee in callees]
        for node in nodes:
            for variable, value, line in _writes(page, node):
                is_token = has_word(variable, "token") or _has_token(value) or not secrets.isdisjoint(_all_names(value))
                write = Write(variable, _locate(function, line, home), is_token)
                seen.writes += [write] if write not in seen.writes else []
        seen.does_more |= any(_is_more(page, node, calls) for node in nodes)
    seen.reads = tuple(source for source in _SOURCES if any(has_word(name, source) for name in names))
    return seen


def has_word(name: str, word: str) -> bool:
    """Whether a word is in a name, and not only in one of its words: GITHUB_TOKEN, and not TOKENIZERS_PARALLELISM."""
    return bool(re.search(rf"(^|_){word}(_|$)", name, re.IGNORECASE))


def _unwrap(called: Any, owner: Any = None) -> Iterator[_Page]:
    """The functions that run when something is called."""
    if isinstance(called, partial):
        yield from _unwrap(called.func)
        for given in (*called.args, *called.keywords.values()):
            if isinstance(given, (partial, FunctionType, MethodType)):
                yield from _unwrap(given)
    elif isinstance(called, (MethodType, classmethod, staticmethod)):
        yield from _unwrap(called.__func__, getattr(called, "__self__", owner))
    elif not isinstance(called, FunctionType) and isinstance(_find(type(called), "__call__"), FunctionType):
        yield _Page(_find(type(called), "__call__"), called)
    else:
        yield _Page(called, owner)


def _find(holder: Any, name: str) -> Any:
    return inspect.getattr_static(holder, name, None)


def _parse(function: FunctionType) -> list[ast.AST]:
    """All nodes of a function, or of all of a line's lambdas; none if there is no source."""
    code = function.__code__
    linecache.checkcache(code.co_filename)
    try:
        tree = ast.parse("".join(linecache.getlines(code.co_filename, function.__globals__)))
    except (SyntaxError, ValueError):
        return []
    return [
        part
        for node in ast.walk(tree)
        if isinstance(node, _DEFINITIONS) and getattr(node, "name", "<lambda>") == code.co_name
        if min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))]) == code.co_firstlineno
        for part in (*ast.walk(node.args), *(each for top in _body(node) for each in ast.walk(top)))
    ]


def _body(node: Any) -> Sequence[ast.AST]:
    return node.body if isinstance(node.body, list) else [node.body]


def _follow(page: _Page, call: ast.Call, home: Any) -> Iterator[_Page]:
    """The functions that a call calls, or hands on to what it calls; an environment that one gets has its own name there."""
    for node in (call.func, *call.args, *(keyword.value for keyword in call.keywords)):
        for callee in _unwrap(*_resolve(page, node)):
            if isinstance(callee.function, FunctionType) and _is_near(callee.function, home):
                if node is call.func:
                    names = callee.function.__code__.co_varnames[callee.owner is not None :]
                    passed = [*zip(names, call.args), *((each.arg, each.value) for each in call.keywords)]
                    callee.environments |= {name for name, value in passed if name and _is_environment(page, value)}
                yield callee


def _resolve(page: _Page, node: ast.AST) -> tuple[Any, Any]:
    """What a name stands for, as far as that is known without running anything, and the object that it is a method of."""
    code, nothing = page.function.__code__, (None, None)
    if isinstance(node, ast.Attribute):
        holder, _ = _resolve(page, node.value)
        found = _find(holder, node.attr) if holder is not None else None
        is_method = isinstance(found, FunctionType) and not isinstance(holder, (ModuleType, type))
        return found, holder if is_method or isinstance(found, classmethod) else None
    if not isinstance(node, ast.Name):
        return nothing
    if page.owner is not None and node.id in code.co_varnames[: min(code.co_argcount, 1)]:
        return page.owner, None
    closure = dict(zip(code.co_freevars, page.function.__closure__ or ()))
    try:
        return (closure[node.id].cell_contents if node.id in closure else page.function.__globals__.get(node.id)), None
    except ValueError:  # not set yet
        return nothing


def _is_near(function: FunctionType, home: Any) -> bool:
    """Whether a function is the admin's own: beside the hook, or in no library."""
    return (
        not is_library(function.__code__.co_filename)
        or str(function.__module__).partition(".")[0] == str(home.__module__).partition(".")[0]
    )


def _locate(function: FunctionType, line: int, home: Any) -> str:
    file = function.__code__.co_filename
    if file.startswith("<"):  # a block of the chart's values
        return f"line {line} of {file[1:-1]}"
    is_here = file == getattr(getattr(home, "__code__", None), "co_filename", None)
    return f"line {line}" if is_here else f"line {line} of {os.path.basename(file)}"


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in _SOURCES:
        yield node.value


def _all_names(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        yield from _names(part)


def _has_token(node: ast.AST) -> bool:
    return any(has_word(name, "token") for name in _all_names(node))


def _is_plain_environment(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "environment"


def _assigned(node: ast.AST, is_meant: Callable[[ast.AST], bool]) -> Iterator[str]:
    """The names that a statement gives to something: that in ``env = spawner.environment``."""
    if isinstance(node, ast.Assign) and is_meant(node.value):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _is_environment(page: _Page, node: ast.AST) -> bool:
    return _is_plain_environment(node) or (isinstance(node, ast.Name) and node.id in page.environments)


def _writes(page: _Page, node: ast.AST) -> Iterator[tuple[str, ast.AST, int]]:
    """The variables that a statement sets in an environment, with their values and lines."""
    if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Subscript) and _is_environment(page, target.value):
                yield _variable(target.slice), node.value or target, node.lineno
            elif _is_environment(page, target) and not _is_environment(page, node.value or target):
                yield from _items(page, node.value or target)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_environment(page, node.func.value):
        if node.func.attr == "setdefault" and node.args:
            yield _variable(node.args[0]), node.args[-1], node.lineno
        elif node.func.attr == "update":
            for keyword in node.keywords:
                yield keyword.arg or "…", keyword.value, keyword.value.lineno
            for argument in node.args:
                yield from _items(page, argument)


def _items(page: _Page, node: ast.expr) -> Iterator[tuple[str, ast.AST, int]]:
    if not isinstance(node, ast.Dict):
        yield "…", node, node.lineno
        return
    for key, value in zip(node.keys, node.values):
        if key is not None or not _is_environment(page, value):
            yield "…" if key is None else _variable(key), value, value.lineno


def _variable(node: ast.AST) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "…"


def _is_more(page: _Page, node: ast.AST, calls: dict[ast.Call, list[_Page]]) -> bool:
    """Whether a part of a function does something beside a look at auth_state and writes into an environment."""
    if isinstance(node, ast.stmt) and not isinstance(node, _PLAIN):
        return True
    if isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
        return not _is_environment(page, node if isinstance(node, ast.Attribute) else node.value)
    if isinstance(node, ast.Expr):
        value = node.value.value if isinstance(node.value, ast.Await) else node.value
        return isinstance(value, ast.Call) and not (any(_writes(page, value)) or calls[value])
    if isinstance(node, ast.Call):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        return not (any(_writes(page, node)) or calls[node] or name in _ASKING)
    return False
