"""What is made of a configuration: the real authenticator, a real Spawner, the specs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from jupyterhub import orm
from jupyterhub.app import JupyterHub
from jupyterhub.user import User
from sqlalchemy import create_engine, inspect
from sqlalchemy.orm import Session
from traitlets import TraitError
from traitlets.config import Config
from traitlets.config.loader import LazyConfigValue

from ..mixin import TokenSpawnerMixin
from ..tokens.fields import SpecError
from ..tokens.spec import TokenSpec, parse_tokens
from .loading import describe, silenced

# What a User reads in JupyterHub's settings, and these take from its traits.
_SETTINGS = (
    *("allow_named_servers", "base_url", "db", "domain", "hub"),
    *("subdomain_hook", "subdomain_host"),
)


@dataclass
class Setup:
    """``failures``: which of ``app``, ``authenticator``, ``spawner`` cannot be made → why.

    ``absent``: which of them is of a module that the chart's image may have, and is not here → why.
    """

    config: Config
    is_chart: bool = False
    app: Any = None
    authenticator: Any = None
    spawner_class: Any = None
    spawner: Any = None
    has_cluster: bool = True  # whether there is a Kubernetes cluster to ask
    tokens: Any = None
    specs: tuple[TokenSpec, ...] = ()
    spec_error: SpecError | None = None
    failures: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    @property
    def has_mixin(self) -> bool:
        return self.spawner_class is not None and issubclass(self.spawner_class, TokenSpawnerMixin)

    @property
    def is_oauth(self) -> bool:
        """Whether the authenticator is one of OAuthenticator's classes, or derives from one."""
        mro = type(self.authenticator).__mro__
        return any(base.__module__ == "oauthenticator.oauth2" for base in mro)

    @property
    def of_login(self) -> list[TokenSpec]:
        """The specs of tokens that come with the login itself."""
        return [spec for spec in self.specs if spec.key in ("access_token", "id_token")]

    def place(self, instance: Any, trait: str, default: str) -> str:
        """Where to set a trait: where the config sets it already, or in the section ``default``."""
        config, sections = self.config, find_sections(type(instance))
        found = [name for name in sections if name in config and trait in config[name]]
        section = found[-1] if found else default
        return f"{'hub.config' if self.is_chart else 'c'}.{section}.{trait}"

    def setting(self, instance: Any, trait: str, value: Any, default: str) -> str:
        """The line that sets a trait, of a Python config or of the chart's values."""
        place = self.place(instance, trait, default)
        return f"{place}: {json.dumps(value)}" if self.is_chart else f"{place} = {value!r}"

    def read_specs(self, tokens: Any) -> tuple[tuple[TokenSpec, ...], SpecError | None]:
        """The specs, or what is wrong with them."""
        spawner = self.spawner
        try:
            files, pull = spawner.delivers_files(), spawner.tokens_pull
            return parse_tokens(tokens, files=files, pull=pull), None
        except SpecError as error:
            return (), error


def find_sections(cls: type) -> list[str]:
    """The names by which a class is configured, the least specific one first."""
    return [base.__name__ for base in reversed(cls.__mro__) if hasattr(base, "class_traits")]


@contextmanager
def stand_in() -> Iterator[orm.User]:
    """A user of a database in memory."""
    engine = create_engine("sqlite://")
    orm.Base.metadata.create_all(engine)
    try:
        with Session(engine, expire_on_commit=False) as session:
            user = orm.User(name="alice")
            session.add(user)
            session.commit()
            yield user
    finally:
        engine.dispose()


async def set_up(
    config: Config, user: orm.User, server: str = "", *, is_chart: bool = False
) -> Setup:
    """Make what JupyterHub makes of a configuration, without a Hub.

    The Spawner is that of a server of ``user``, and all classes are given the user's database.
    """
    setup, part = Setup(config, is_chart), "app"
    with silenced():
        try:
            config = _without(config, JupyterHub, "logging_config")[0]
            if is_chart:
                config = _without_absent(setup, config)
            app = JupyterHub(config=config)
            app.db = inspect(user).session
            app.init_hub()
            setup.app, part = app, "authenticator"
            if part not in setup.absent:
                setup.authenticator = app.authenticator
            part = "spawner"
            if part not in setup.absent:
                setup.spawner_class = app.spawner_class
                _make_spawner(setup, user, server)
        except (Exception, SystemExit) as error:
            setup.failures[part] = describe(error, config)
    return setup


def _without(config: Config, cls: type, trait: str) -> tuple[Config, Any]:
    """A copy without a trait of a class, and the value that traitlets would give to that trait.

    JupyterHub's ``logging_config`` may open log files, and ``tokens`` may be wrong.
    """
    config, value = Config(config), None
    for name in find_sections(cls):
        if name in config and trait in config[name]:
            config[name] = Config(config[name])
            found = config[name].pop(trait)
            is_lazy = isinstance(found, LazyConfigValue)  # of tokens.update(…)
            value = found.get_value(dict(value or {})) if is_lazy else found
    return config, value


def _without_absent(setup: Setup, config: Config) -> Config:
    """A copy without the classes that cannot be imported here."""
    for part in ("authenticator", "spawner"):
        trait = f"{part}_class"
        if trait in config.JupyterHub:
            try:
                JupyterHub(config=Config({"JupyterHub": {trait: config.JupyterHub[trait]}}))
            except (ImportError, TraitError) as error:
                if isinstance(error.__cause__ or error, ImportError):
                    setup.absent[part] = describe(error, config)
                    config = _without(config, JupyterHub, trait)[0]
    return config


def _make_spawner(setup: Setup, user: orm.User, server: str) -> None:
    config, tokens = _without(setup.config, setup.spawner_class, "tokens")
    given = _find_arguments(setup, user, server, config)
    # In two steps: a KubeSpawner looks for a cluster at the end of __init__, when it is made.
    spawner = setup.spawner_class.__new__(setup.spawner_class, **given)
    try:
        spawner.__init__(**given)
    except Exception as error:
        if not type(error).__module__.startswith("kubernetes_asyncio.config"):
            raise
        setup.has_cluster = False
    setup.spawner = spawner
    if setup.has_mixin:
        setup.tokens = spawner.tokens if tokens is None else tokens
        setup.specs, setup.spec_error = setup.read_specs(setup.tokens)


class _Arguments(dict[str, Any]):
    """Takes the Spawner's place, to get its arguments: one of ours that loads its state sweeps."""

    def load_state(self, state: object) -> None:
        pass


def _find_arguments(setup: Setup, orm_user: orm.User, server: str, config: Config) -> _Arguments:
    app = setup.app
    settings = {name: getattr(app, name) for name in _SETTINGS}
    settings |= {"app": app, "authenticator": setup.authenticator, "config": config}
    user = User(orm_user, {**settings, **app.tornado_settings})
    if server not in user.orm_spawners:
        orm.Spawner(name=server, user=orm_user)
    arguments: _Arguments = user._new_spawner(server, _Arguments)
    return arguments
