"""What is made of a configuration: the real authenticator, a real Spawner, the specs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

from jupyterhub import orm
from jupyterhub.app import JupyterHub
from jupyterhub.user import User
from sqlalchemy import create_engine, inspect
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool
from traitlets.config import Config
from traitlets.config.loader import LazyConfigValue

from ..mixin import TokenSpawnerMixin
from ..tokens.fields import SpecError
from ..tokens.spec import TokenSpec, parse_token, parse_tokens
from .loading import describe, silenced

_PATIENCE = 10  # seconds, for a command of a kubeconfig that fetches a credential


@dataclass
class Setup:
    """``failures``: which of ``app``, ``authenticator``, ``spawner`` cannot be made → why."""

    config: Config
    is_chart: bool = False
    app: Any = None
    authenticator: Any = None
    spawner_class: Any = None
    spawner: Any = None
    no_cluster: str = ""  # why no Kubernetes cluster can be asked
    tokens: Mapping[str, Any] = field(default_factory=dict)
    specs: tuple[TokenSpec, ...] = ()
    spec_errors: tuple[SpecError, ...] = ()
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def has_mixin(self) -> bool:
        return self.spawner_class is not None and issubclass(self.spawner_class, TokenSpawnerMixin)

    @property
    def is_oauth(self) -> bool:
        """Whether the authenticator is one of OAuthenticator's classes, or derives from one."""
        mro = type(self.authenticator).__mro__
        return any(base.__module__ == "oauthenticator.oauth2" for base in mro)

    @property
    def delivers_files(self) -> bool:
        return bool(self.spawner.delivers_files())

    @property
    def of_login(self) -> list[TokenSpec]:
        """The specs of tokens that come with the login itself."""
        return [spec for spec in self.specs if spec.key in ("access_token", "id_token")]

    def spawns_by(self, name: str) -> bool:
        """Whether the spawner derives from a class of this name, which need not be installed."""
        return name in find_sections(self.spawner_class)

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

    def read_specs(self, tokens: Any) -> tuple[list[TokenSpec], list[SpecError]]:
        """The specs that can be read, and all that is wrong with the others."""
        specs, errors = [], []
        if isinstance(tokens, Mapping):
            for name, fields in tokens.items():
                try:
                    specs.append(parse_token(name, fields, files=self.delivers_files))
                except SpecError as error:
                    errors.append(error)
        if not errors:
            try:
                parse_tokens(tokens, files=self.delivers_files)
            except SpecError as error:
                errors.append(error)
        return specs, errors


def find_sections(cls: type) -> list[str]:
    """The names by which a class is configured, the least specific one first."""
    return [base.__name__ for base in reversed(cls.__mro__) if hasattr(base, "class_traits")]


@contextmanager
def stand_in() -> Iterator[orm.User]:
    """A user of a database in memory."""
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
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
    setup = Setup(config, is_chart)
    part = "app"
    with silenced():
        try:
            app = JupyterHub(config=_without_logging(config))
            app.db = inspect(user).session
            app.init_hub()
            setup.app, part = app, "authenticator"
            setup.spawner_class = app.spawner_class
            setup.authenticator = app.authenticator
            part = "spawner"
            _make_spawner(setup, user, server)
        except (Exception, SystemExit) as error:
            setup.failures[part] = describe(error, config)
    return setup


def _without_logging(config: Config) -> Config:
    """A copy with which traitlets opens no log file."""
    config = Config(config)
    for name in find_sections(JupyterHub):
        if name in config:
            config[name] = Config(config[name])
            config[name].pop("logging_config", None)
    return config


def _make_spawner(setup: Setup, user: orm.User, server: str) -> None:
    config, tokens = _take_tokens(setup.config, setup.spawner_class)
    given = _find_arguments(setup, user, server, config)
    # In two steps: a KubeSpawner looks for a cluster at the end of __init__, when it is made.
    spawner = setup.spawner_class.__new__(setup.spawner_class, **given)
    if setup.spawns_by("KubeSpawner"):
        setup.no_cluster = _initialize_in_time(spawner, given)
    else:
        spawner.__init__(**given)
    setup.spawner = spawner
    if setup.has_mixin:
        tokens = spawner.tokens if tokens is None else tokens
        specs, errors = setup.read_specs(tokens)
        setup.tokens = tokens if isinstance(tokens, Mapping) else {}
        setup.specs, setup.spec_errors = tuple(specs), tuple(errors)


def _initialize_in_time(spawner: Any, given: Mapping[str, Any]) -> str:
    """Make a KubeSpawner, which runs the kubeconfig's command. Returns why it has no cluster."""
    made: Future[None] = Future()

    async def initialize() -> None:
        spawner.__init__(**given)

    def run() -> None:
        try:
            made.set_result(asyncio.run(initialize()))
        except BaseException as error:
            made.set_exception(error)

    Thread(target=run).start()  # for which the console script does not wait
    try:
        made.result(_PATIENCE)
    except FutureTimeoutError:
        return f"KubeSpawner runs a command of the kubeconfig for more than {_PATIENCE} seconds"
    except Exception as error:
        if not type(error).__module__.startswith("kubernetes_asyncio.config"):
            raise
        return "there is neither a service account nor a kubeconfig"
    return ""


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


# What a User reads in JupyterHub's settings, and these take from its traits.
_SETTINGS = (
    *("allow_named_servers", "base_url", "db", "domain", "hub"),
    *("subdomain_hook", "subdomain_host"),
)


def _take_tokens(config: Config, spawner_class: type) -> tuple[Config, Any]:
    """A config without ``tokens``, which may be wrong, and the ones that traitlets would take."""
    config, tokens = Config(config), None
    for name in find_sections(spawner_class):
        if name in config and "tokens" in config[name]:
            config[name] = Config(config[name])
            value = config[name].pop("tokens")
            is_lazy = isinstance(value, LazyConfigValue)  # of tokens.update(…)
            tokens = value.get_value(dict(tokens or {})) if is_lazy else value
    return config, tokens
