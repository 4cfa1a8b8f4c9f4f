"""Functions, read by their source and never run: what a hook does with tokens and an environment, itself or by helpers."""

from __future__ import annotations

import ast
import linecache
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from .loading import is_library
from .taint import (
    SOURCES,
    TOKENS,
    Page,
    Taint,
    bind,
    find,
    give,
    is_plain,
    list_names,
    list_writes,
    resolve,
    spread,
    taint_of,
)

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(frozen=True)
class Write:
    """A variable that is set in an environment, ``…`` for what is not known of its name; ``line`` with its file, if another."""

    variable: str
    line: str
    is_token: bool


@dataclass
class Seen:
    """What a hook does: ``is_plain`` if nothing but to write variables, ``unread`` are functions without a source."""

    line: int = 0
    reads: tuple[str, ...] = ()
    writes: list[Write] = field(default_factory=list)
    is_plain: bool = True
    unread: list[str] = field(default_factory=list)


def look_at(hook: Callable[..., Any], *, is_given_state: bool = False) -> Seen:
    """What a hook does with tokens and an environment, and the functions that it calls, unless they are a library's.

    ``is_given_state`` says that its last argument is the ``auth_state``, whatever its name.
    """
    seen = Seen()
    names: set[str] = set()
    pages = list(_unwrap(hook))
    home = pages[0].function
    if (
        is_given_state
        and isinstance(home, FunctionType)
        and (count := home.__code__.co_argcount) > 1
    ):
        pages[0].taints[home.__code__.co_varnames[count - 1]] = Taint.WHOLE
    known = set()
    for page in pages:  # which grows
        function = page.function
        if (
            key := (id(function), frozenset(page.environments), frozenset(page.taints.items()))
        ) in known:
            continue
        known.add(key)
        nodes = _parse(function) if isinstance(function, FunctionType) else []
        if not nodes:
            seen.unread.append(getattr(function, "__qualname__", type(function).__name__))
            continue
        seen.line = seen.line or function.__code__.co_firstlineno
        here = {name for node in nodes for name in list_names(page, node)}
        names |= here
        page.names_tokens = not here.isdisjoint(TOKENS)
        bindings = [binding for node in nodes for binding in bind(node, nodes)]
        spread(page, bindings)
        pages += [
            callee
            for node in nodes
            if isinstance(node, ast.Call)
            for callee in _follow(page, node, home)
        ]
        for variable, value, line in list_writes(page, nodes, bindings):
            taint = taint_of(page, value)
            is_token = taint >= Taint.TOKEN or (
                taint is Taint.PART and bool(re.search("(^|_)token$", variable, re.I))
            )
            write = Write(variable, _locate(function, line, home), is_token)
            seen.writes += [write] if write not in seen.writes else []
        seen.is_plain &= all(is_plain(page, node) for node in nodes)
    seen.reads = tuple(source for source in SOURCES if source in names)
    return seen


def _unwrap(called: Any, owner: Any = None) -> Iterator[Page]:
    """The functions that run when something is called."""
    if isinstance(called, partial):
        yield from _unwrap(called.func)
        for given in (*called.args, *called.keywords.values()):
            if isinstance(given, (partial, FunctionType, MethodType)):
                yield from _unwrap(given)
    elif isinstance(called, (MethodType, classmethod, staticmethod)):
        yield from _unwrap(called.__func__, getattr(called, "__self__", owner))
    elif not isinstance(called, FunctionType) and isinstance(
        find(type(called), "__call__"), FunctionType
    ):
        yield Page(find(type(called), "__call__"), called)
    else:
        yield Page(called, owner)


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
        if min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
        == code.co_firstlineno
        for part in (*ast.walk(node.args), *(each for top in _body(node) for each in ast.walk(top)))
    ]


def _body(node: Any) -> Sequence[ast.AST]:
    return node.body if isinstance(node.body, list) else [node.body]


def _follow(page: Page, call: ast.Call, home: Any) -> Iterator[Page]:
    """The functions that a call calls, or hands on with the arguments behind; what they are given has its own name there."""
    for place, node in enumerate(
        (call.func, *call.args, *(keyword.value for keyword in call.keywords))
    ):
        for callee in _unwrap(*resolve(page, node)):
            if isinstance(callee.function, FunctionType) and _is_near(callee.function, home):
                names = callee.function.__code__.co_varnames[callee.owner is not None :]
                for name, value in (
                    *zip(names, call.args[place:]),
                    *((each.arg, each.value) for each in call.keywords),
                ):
                    if name:
                        give(page, callee, name, value)
                yield callee


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
