"""What is made of a configuration: the real authenticator, a real Spawner of some user, and the specs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
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
from ..tokens.spec import TokenSpec, parse_token
from .finding import Code, NotPlain, Setting, Words, literal
from .loading import describe, unheard

_TOKENS = "tokens"
_PATIENCE = 10  # seconds, for a command that fetches a credential from a cloud


@dataclass
class Setup:
    """``failures`` are the classes that could not be made: ``hub``, ``authenticator``, ``spawner`` → why."""

    config: Config
    is_chart: bool = False
    app: Any = None
    authenticator: Any = None
    spawner_class: type | None = None
    spawner: Any = None
    outside: str = ""  # why a Kubernetes cluster is not known here
    tokens: Mapping[Any, Any] = field(default_factory=dict)
    specs: tuple[TokenSpec, ...] = ()
    spec_errors: tuple[SpecError, ...] = ()
    failures: dict[str, str] = field(default_factory=dict)
    mended: dict[str, dict[str, Any]] = field(
        default_factory=dict
    )  # the specs, with all lines of the findings so far

    @property
    def has_mixin(self) -> bool:
        return self.spawner_class is not None and issubclass(self.spawner_class, TokenSpawnerMixin)

    @property
    def of_login(self) -> list[TokenSpec]:
        """The specs of tokens that come with the login itself, with the keys that findings so far give them."""
        keys = {
            spec.name: self.mended.get(spec.name, {}).get("key", spec.key) for spec in self.specs
        }
        return [spec for spec in self.specs if keys[spec.name] in ("access_token", "id_token")]

    @property
    def is_oauth(self) -> bool:
        """Whether the authenticator is one of OAuthenticator's classes, or derives from one."""
        return any(
            base.__module__ == "oauthenticator.oauth2" for base in type(self.authenticator).__mro__
        )

    def spawns_by(self, name: str) -> bool:
        """Whether the spawner derives from a class of this name: its package need not be installed."""
        return self.spawner_class is not None and name in _sections(self.spawner_class)

    def is_set(self, instance: Any, trait: str) -> bool:
        """Whether the config sets this trait, for one of the classes that it works for."""
        return bool(self.sections(instance, trait))

    def section(self, instance: Any, trait: str, default: str) -> str:
        """Where a line has to set a trait to have an effect: where the config sets it already."""
        found = self.sections(instance, trait)
        return found[-1] if found else default

    def sections(self, instance: Any, trait: str) -> list[str]:
        """Where the config sets a trait: the last one wins."""
        return [
            name
            for name in _sections(type(instance))
            if name in self.config and trait in self.config[name]
        ]

    def setting(
        self, instance: Any, trait: str, value: Any, default: str, note: str = ""
    ) -> Setting:
        return Setting((self.section(instance, trait, default), trait), value, note)

    def of_token(self, name: str, field: str, value: Any) -> list[Setting | Code | Words]:
        """What changes one field of one spec, and nothing else of it; in a field that is a dict, what differs."""
        mended = self.mended.setdefault(name, dict(self.tokens[name]))
        before, mended[field] = mended.get(field), value
        section = self.section(self.spawner, _TOKENS, "TokenSpawnerMixin")
        if isinstance(
            self.config[section].get(_TOKENS), LazyConfigValue
        ):  # of tokens.update(…): it has no items yet
            return [_update(section, name, mended, field)]
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            changed = {
                key: each
                for key, each in value.items()
                if key not in before or before[key] is not each
            }
            return [
                Setting((section, _TOKENS, name, field, key), each) for key, each in changed.items()
            ]
        return [Setting((section, _TOKENS, name, field), value)]


def _update(section: str, name: str, spec: Mapping[str, Any], field: str) -> Code | Words:
    """The whole spec: ``update`` replaces it. One with a function in it cannot be printed."""
    place = f"c.{section}.{_TOKENS}.update"
    try:
        return Code(f"{place}({literal({name: spec})})")
    except NotPlain:
        wanted, keep = spec[field], ""
        if isinstance(wanted, Mapping) and any(map(callable, wanted.values())):
            wanted, keep = (
                {key: each for key, each in wanted.items() if not callable(each)},
                ", and keep its functions",
            )
        return Words(
            f"in {place}(…), in the spec {literal(name)}, set {literal(field)}: {literal(wanted)}{keep}"
        )


@contextmanager
def stand_in() -> Iterator[orm.User]:
    """A user of a database that is in memory alone: what classes ask theirs for is there, and nobody else's."""
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


def set_up(config: Config, user: orm.User, server: str = "", *, is_chart: bool = False) -> Setup:
    """Make what JupyterHub makes of a configuration, without a Hub. KubeSpawner needs a running event loop for it.

    The Spawner is that of a server of ``user``, and their database the one that all classes are given.
    """
    setup = Setup(config, is_chart)
    with unheard():
        _set_up(setup, user, server)
    return setup


def _set_up(setup: Setup, user: orm.User, server: str) -> None:
    config = setup.config
    try:
        app = JupyterHub(config=_without_logging(config))
        app.db = inspect(user).session
        app.init_hub()
    except (Exception, SystemExit) as error:
        setup.failures["hub"] = describe(error, config)
        return
    setup.app = app
    try:
        setup.authenticator = app.authenticator
    except (Exception, SystemExit) as error:
        setup.failures["authenticator"] = describe(error, config)
    try:
        setup.spawner_class = app.spawner_class
        _make_spawner(setup, user, server)
    except (Exception, SystemExit) as error:
        setup.failures["spawner"] = describe(error, config)


def _without_logging(config: Config) -> Config:
    """A copy that makes traitlets neither log the whole config, secrets and all, as it does at DEBUG, nor open log files."""
    config, levels = Config(config), JupyterHub.class_traits()["log_level"].values
    for name in _sections(JupyterHub):
        if name not in config:
            continue
        config[name] = Config(config[name])
        config[name].pop("logging_config", None)
        if config[name].get("log_level") in levels:  # others are no level, and an error to be found
            del config[name]["log_level"]
    return config


def _make_spawner(setup: Setup, user: orm.User, server: str) -> None:
    assert setup.spawner_class is not None
    config, tokens = _take_tokens(setup.config, setup.spawner_class)
    given = _find_arguments(setup, user, server, config)
    # Not in one step: when a KubeSpawner finds no cluster, at the end of __init__, all else of it is there.
    make: Any = setup.spawner_class
    spawner = make.__new__(make, **given)
    try:
        if not setup.spawns_by("KubeSpawner"):
            spawner.__init__(**given)
        elif not _initialize_in_time(spawner, given):
            setup.outside = f"KubeSpawner waits for more than {_PATIENCE} seconds, most likely for a command in the kubeconfig"
    except Exception as error:
        if not type(error).__module__.startswith("kubernetes_asyncio.config"):
            raise
        setup.outside = "there is neither a service account nor a kubeconfig"
    setup.spawner = spawner
    if setup.has_mixin:
        setup.tokens = spawner.tokens if tokens is None else tokens
        _read_specs(setup)


def _initialize_in_time(spawner: Any, given: Mapping[str, Any]) -> bool:
    """Whether a KubeSpawner comes to its end: it waits for a command that its kubeconfig may name. Raises what it does."""
    made: Future[None] = Future()

    async def initialize() -> None:
        spawner.__init__(**given)

    def run() -> None:
        try:
            made.set_result(asyncio.run(initialize()))
        except BaseException as error:
            made.set_exception(error)

    thread = Thread(target=run)  # for which the console script does not wait
    thread.start()
    thread.join(_PATIENCE)
    if thread.is_alive():
        return False
    made.result()
    return True


class _Arguments(dict[str, Any]):
    """What JupyterHub makes a Spawner of, made in its place: a Spawner of ours that loads its state begins to sweep."""

    def load_state(self, state: object) -> None:
        pass


def _find_arguments(setup: Setup, orm_user: orm.User, server: str, config: Config) -> _Arguments:
    app = setup.app
    settings = {name: getattr(app, name) for name in _SETTINGS}
    settings |= {
        "app": app,
        "authenticator": setup.authenticator,
        "config": config,
        **app.tornado_settings,
    }
    user = User(orm_user, settings)
    if server not in user.orm_spawners:
        orm.Spawner(name=server, user=orm_user)
    arguments: _Arguments = user._new_spawner(server, _Arguments)
    return arguments


# What a User finds in JupyterHub's settings, and they have from its traits.
_SETTINGS = (
    "allow_named_servers",
    "base_url",
    "db",
    "domain",
    "hub",
    "subdomain_hook",
    "subdomain_host",
)


def _take_tokens(config: Config, spawner_class: type) -> tuple[Config, Any]:
    """A config without ``tokens``, which may be wrong, and the ones that traitlets would take."""
    config, tokens = Config(config), None
    for name in _sections(spawner_class):
        if name in config and _TOKENS in config[name]:
            config[name] = Config(config[name])
            value = config[name].pop(_TOKENS)
            tokens = (
                value.get_value(dict(tokens or {})) if isinstance(value, LazyConfigValue) else value
            )
    return config, tokens


def _read_specs(setup: Setup) -> None:
    files = setup.spawner._delivers_files()
    if not isinstance(setup.tokens, Mapping):
        setup.spec_errors = (SpecError("…", None, "tokens is a dict of token name → spec"),)
        setup.tokens = {}
    for name, fields in setup.tokens.items():
        try:
            setup.specs += (parse_token(name, fields, files=files),)
        except SpecError as error:
            setup.spec_errors += (error,)


def _sections(cls: type) -> list[str]:
    """The names by which a class is configured, the least specific one first."""
    return [base.__name__ for base in reversed(cls.__mro__) if hasattr(base, "class_traits")]
