"""One function's source: what of auth_state is in its values, and which variables it sets in an environment."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from types import FunctionType, ModuleType
from typing import Any

TOKENS = ("access_token", "id_token", "refresh_token", "token_response")
SOURCES = ("auth_state", *TOKENS)

# Calls whose results hold what they were given; of any other call's, nobody knows.
_PASSING = {
    "str",
    "repr",
    "dict",
    "list",
    "tuple",
    "dumps",
    "format",
    "join",
    "items",
    "values",
    "copy",
}
_PASSING |= {
    "encode",
    "decode",
    "strip",
    "lstrip",
    "rstrip",
    "b64encode",
    "urlsafe_b64encode",
    "standard_b64encode",
}

# What may be in a function that only writes variables.
_PLAIN = (
    *(
        ast.arguments,
        ast.arg,
        ast.keyword,
        ast.Assign,
        ast.AnnAssign,
        ast.Expr,
        ast.If,
        ast.Pass,
        ast.Return,
    ),
    *(
        ast.Name,
        ast.Constant,
        ast.Attribute,
        ast.Subscript,
        ast.Dict,
        ast.JoinedStr,
        ast.FormattedValue,
        ast.Await,
    ),
    *(
        ast.expr_context,
        ast.BoolOp,
        ast.boolop,
        ast.UnaryOp,
        ast.Not,
        ast.Compare,
        ast.Is,
        ast.IsNot,
        ast.In,
        ast.NotIn,
    ),
)


class Taint(IntEnum):
    """What of auth_state is in a value: nothing, a part of it or something made of it, a token, or all that it holds."""

    NONE = 0
    PART = 1
    TOKEN = 2
    WHOLE = 3


@dataclass
class Page:
    """A function, the object that it is a method of, and what its names stand for: an environment, or some of auth_state."""

    function: Any
    owner: Any = None
    environments: set[str] = field(default_factory=lambda: {"environment"})
    taints: dict[str, Taint] = field(default_factory=lambda: {"auth_state": Taint.WHOLE})
    names_tokens: bool = False


def find(holder: Any, name: str) -> Any:
    return inspect.getattr_static(holder, name, None)


def give(page: Page, callee: Page, name: str, value: ast.AST) -> None:
    """A name in ``callee``, which may be the same page, gets a value of ``page``."""
    if _is_environment(page, value):
        callee.environments.add(name)
    if taint := taint_of(page, value):
        callee.taints[name] = max(taint, callee.taints.get(name, Taint.NONE))


def resolve(page: Page, node: ast.AST) -> tuple[Any, Any]:
    """What a name stands for, as far as that is known without running anything, and the object that it is a method of."""
    code, nothing = page.function.__code__, (None, None)
    if isinstance(node, ast.Attribute):
        holder, _ = resolve(page, node.value)
        found = find(holder, node.attr) if holder is not None else None
        is_method = isinstance(found, FunctionType) and not isinstance(holder, (ModuleType, type))
        return found, holder if is_method or isinstance(found, classmethod) else None
    if not isinstance(node, ast.Name):
        return nothing
    if page.owner is not None and node.id in code.co_varnames[: min(code.co_argcount, 1)]:
        return page.owner, None
    if node.id in (*code.co_varnames, *code.co_cellvars):
        return nothing
    closure = dict(zip(code.co_freevars, page.function.__closure__ or ()))
    try:
        return (
            closure[node.id].cell_contents
            if node.id in closure
            else page.function.__globals__.get(node.id)
        ), None
    except ValueError:  # not set yet
        return nothing


def list_names(page: Page, node: ast.AST) -> Iterator[str]:
    """The names in a node, and the texts in it and in the tables that it names."""
    if isinstance(node, (ast.Attribute, ast.Name)):
        yield node.attr if isinstance(node, ast.Attribute) else node.id
        yield from _texts(resolve(page, node)[0])
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.Constant):
        yield from _texts(node.value)


def _texts(found: Any, depth: int = 3) -> Iterator[str]:
    if isinstance(found, str):
        yield found
    elif isinstance(found, (dict, list, tuple)) and depth:
        for each in (*found, *found.values()) if isinstance(found, dict) else found:
            yield from _texts(each, depth - 1)


def bind(node: ast.AST, nodes: list[ast.AST]) -> Iterator[tuple[ast.AST, ast.expr]]:
    """What a node gives to which name or place: an assignment, a loop, or a call of a function inside of the function."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield from _pair(target, node.value)
    elif isinstance(node, (ast.AnnAssign, ast.AugAssign, ast.NamedExpr)) and node.value:
        yield node.target, node.value
    elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
        yield from ((target, _some_of(node.iter)) for target in ast.walk(node.target))
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        for inner in nodes:
            if (
                isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef))
                and inner.name == node.func.id
            ):
                yield from (
                    (ast.Name(name.arg), value) for name, value in zip(inner.args.args, node.args)
                )
                yield from ((ast.Name(each.arg), each.value) for each in node.keywords if each.arg)


def _pair(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.AST, ast.expr]]:
    if not isinstance(target, (ast.Tuple, ast.List)):
        yield target, value
    elif isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(target.elts):
        for each in zip(target.elts, value.elts):
            yield from _pair(*each)
    else:
        for part in target.elts:
            yield from _pair(part, _some_of(value))


def _some_of(value: ast.expr) -> ast.expr:
    return ast.copy_location(ast.Starred(value), value)


def spread(page: Page, bindings: list[tuple[ast.AST, ast.expr]]) -> None:
    """Give all names what they may stand for, in whatever order the statements run."""
    before = None
    while before != (before := (len(page.environments), dict(page.taints))):
        for target, value in bindings:
            if isinstance(target, ast.Name):
                give(page, page, target.id, value)


def taint_of(page: Page, node: ast.AST) -> Taint:
    """What of auth_state is in an expression's value."""
    if isinstance(node, ast.Name):
        return page.taints.get(node.id, Taint.NONE)
    if isinstance(node, ast.Attribute):
        if node.attr in SOURCES:
            return Taint.WHOLE if node.attr in ("auth_state", "token_response") else Taint.TOKEN
        return min(taint_of(page, node.value), Taint.PART)
    if isinstance(node, ast.Subscript):
        return _pick(page, taint_of(page, node.value), node.slice)
    if isinstance(node, ast.Call):
        return _taint_of_call(page, node)
    if isinstance(node, (ast.Compare, ast.UnaryOp, ast.comprehension, ast.Lambda)):
        return Taint.NONE
    parts: Iterable[ast.AST] = ast.iter_child_nodes(node)
    if isinstance(node, ast.IfExp):
        parts = (node.body, node.orelse)
    elif isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        parts = node.values[-1:]
    return max((taint_of(page, part) for part in parts), default=Taint.NONE)


def _taint_of_call(page: Page, call: ast.Call) -> Taint:
    is_method = isinstance(call.func, ast.Attribute)
    name = getattr(call.func, "attr" if is_method else "id", "")
    holder = taint_of(page, call.func.value) if isinstance(call.func, ast.Attribute) else Taint.NONE
    if name == "get_auth_state":
        return Taint.WHOLE
    if name in ("get", "pop") and holder and call.args:
        return max(
            _pick(page, holder, call.args[0]),
            *(taint_of(page, default) for default in call.args[1:]),
            Taint.NONE,
        )
    if name in ("bool", "len"):
        return Taint.NONE
    given = max(
        [
            holder,
            *(
                taint_of(page, part)
                for part in (*call.args, *(each.value for each in call.keywords))
            ),
        ]
    )
    return given if name in _PASSING else min(given, Taint.PART)


def _pick(page: Page, holder: Taint, key: ast.AST) -> Taint:
    """What of auth_state is under a key of something."""
    if holder in (Taint.NONE, Taint.TOKEN):
        return holder
    name = _text(page, key)
    if name == "token_response":
        return Taint.WHOLE
    is_token = bool(re.search("(^|_)tokens?$", name)) or (
        name == "…" and holder is Taint.WHOLE and page.names_tokens
    )
    return Taint.TOKEN if is_token else Taint.PART


def _text(page: Page, node: ast.AST) -> str:
    """A text, with ``…`` for what is not known of it."""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(page, part) for part in node.values)
    found = node.value if isinstance(node, ast.Constant) else resolve(page, node)[0]
    return found if isinstance(found, str) else "…"


def _is_environment(page: Page, node: ast.AST | None) -> bool:
    if isinstance(node, ast.Name):
        return node.id in page.environments
    if isinstance(node, ast.Call):
        return getattr(node.func, "attr", "") == "get_env"
    if isinstance(node, ast.NamedExpr):
        return _is_environment(page, node.value)
    return isinstance(node, ast.Attribute) and node.attr == "environment"


def list_writes(
    page: Page, nodes: list[ast.AST], bindings: list[tuple[ast.AST, ast.expr]]
) -> Iterator[tuple[str, ast.expr, int]]:
    """The variables that are set in an environment, with their values and lines."""
    for target, value in bindings:
        if isinstance(target, ast.Subscript) and _is_environment(page, target.value):
            yield _text(page, target.slice), value, target.lineno
        elif (
            isinstance(target, ast.Attribute)
            and _is_environment(page, target)
            and not _is_environment(page, value)
        ):
            yield from _items(page, value)
    for node in nodes:
        if (
            isinstance(node, ast.AugAssign)
            and isinstance(node.target, ast.Name)
            and _is_environment(page, node.target)
        ):
            yield from _items(page, node.value)
        elif isinstance(node, ast.Call) and _is_write(page, node):
            if node.func.attr == "setdefault":  # type: ignore[attr-defined]
                yield _text(page, node.args[0]), node.args[-1], node.lineno
            else:
                yield from (
                    (keyword.arg or "…", keyword.value, keyword.value.lineno)
                    for keyword in node.keywords
                )
                yield from (item for argument in node.args for item in _items(page, argument))


def _is_write(page: Page, call: ast.Call) -> bool:
    function = call.func
    if not isinstance(function, ast.Attribute) or not _is_environment(page, function.value):
        return False
    return function.attr == "update" or (function.attr == "setdefault" and bool(call.args))


def _items(page: Page, node: ast.expr) -> Iterator[tuple[str, ast.expr, int]]:
    if not isinstance(node, ast.Dict):
        yield "…", node, node.lineno
        return
    for key, value in zip(node.keys, node.values):
        if key is not None:
            yield _text(page, key), value, key.lineno
        elif not _is_environment(page, value):
            yield from _items(page, value)


def is_plain(page: Page, node: ast.AST) -> bool:
    """Whether a part of a function only looks at auth_state, or sets a variable, and does so for everybody who logged in."""
    if isinstance(node, ast.If):
        return all(_is_of_login(page, part) for part in ast.walk(node.test))
    if isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
        return isinstance(node, ast.Subscript) and _is_environment(page, node.value)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute):
            is_look = node.func.attr == "get" and taint_of(page, node.func.value) is not Taint.NONE
            return node.func.attr == "get_auth_state" or is_look or _is_write(page, node)
        return isinstance(node.func, ast.Name) and node.func.id == "str"
    return isinstance(node, _PLAIN)


def _is_of_login(page: Page, node: ast.AST) -> bool:
    """Whether a part of a condition asks for no more than that there is an auth_state, or a token in it."""
    if isinstance(node, ast.Name):
        return taint_of(page, node) >= Taint.TOKEN
    if isinstance(node, ast.Constant):
        return node.value is None or node.value in TOKENS
    return not isinstance(node, (ast.Attribute, ast.Subscript, ast.Call))
