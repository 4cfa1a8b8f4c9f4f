"""Checks of the names of classes: what JupyterHub cannot find by them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from importlib.metadata import entry_points

from traitlets.config import Config
from traitlets.utils.importstring import import_item

from .finding import Finding, Setting, Words, error
from .loading import describe

_GROUPS = {
    "authenticator_class": "jupyterhub.authenticators",
    "spawner_class": "jupyterhub.spawners",
}


def check_classes(config: Config) -> Iterator[Finding]:
    """The classes in ``c.JupyterHub`` can be imported."""
    for trait, group in _GROUPS.items():
        name = config.JupyterHub.get(trait)
        if not isinstance(name, str):
            continue
        known = {each.name.lower(): each for each in entry_points(group=group)}
        try:
            if name.lower() in known:
                known[name.lower()].load()
            elif "." in name:
                import_item(name)
            else:
                yield _unknown(trait, name, list(known))
        except Exception as failure:
            yield find_order(failure) or error(
                "class-unknown",
                f"c.JupyterHub.{trait}: {name} cannot be imported: {describe(failure, config)}.",
                "The Hub does not start.",
                Words(_advise(failure)),
            )


def find_order(failure: BaseException | None) -> Finding | None:
    """Of a class whose mixin is not in front, which is an error where Python makes it."""
    words = str(failure)
    if not isinstance(failure, TypeError) or "the token mixin has to come first" not in words:
        return None
    what = f"{words.partition(':')[0]}: the token mixin has to come first."
    why = "Behind the spawner's class its methods are never called; so that is an error when the config is loaded."
    return error("mixin-order", what, why, Words(f"write {words.partition('; write ')[2]}"))


def _unknown(trait: str, name: str, known: list[str]) -> Finding:
    near = difflib.get_close_matches(name.lower(), known, n=1)
    what = f"c.JupyterHub.{trait}: nothing that is installed is called {name}."
    fix = (
        Setting(("JupyterHub", trait), near[0])
        if near
        else Words(f"name one of these: {', '.join(sorted(known))}")
    )
    return error("class-unknown", what, "The Hub does not start.", fix)


def _advise(failure: Exception) -> str:
    if isinstance(failure, ModuleNotFoundError):
        return f"install what has the module {failure.name}, where the Hub runs"
    _, needs, command = str(failure).partition("pip install ")
    return needs + command if needs else "mend the name, or what it names"
