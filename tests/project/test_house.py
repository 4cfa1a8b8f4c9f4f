"""The house: data flows one way, so a module imports only what stands left of it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import spawner_tokens

PACKAGE = Path(spawner_tokens.__file__).parent
ANYTHING = None

# Room → the other rooms, or single modules of them, and the libraries that it may import.
MAY_IMPORT = {
    "tokens": set(),
    "redaction": set(),
    "foreign": {"jupyterhub"},
    "metrics": {"tokens", "jupyterhub", "prometheus_client"},
    "traits": {"tokens", "jupyterhub", "traitlets"},
    "combination": {"traits", "jupyterhub", "traitlets"},
    "sweep": {"redaction"},
    "hub": {"sweep", "jupyterhub", "sqlalchemy"},
    "backend": {"traits", "sweep", "hub", "sqlalchemy"},
    "sharing": {"redaction", "renewal", "jupyterhub", "sqlalchemy", "tornado"},
    "renewal": {
        *("tokens", "metrics", "redaction", "foreign"),
        *("cryptography", "jupyterhub", "sqlalchemy", "tornado"),
    },
    "refusal": {"tokens", "metrics", "jupyterhub", "tornado"},
    "hook": {"tokens", "redaction", "foreign"},
    "delivered": {"metrics", "tokens"},
    "change": {"tokens"},
    "delivery": {
        *("tokens", "sharing", "refusal", "metrics", "hook", "delivered", "change"),
    },
    "start": {"tokens", "backend"},
    "api": {
        *("tokens", "metrics", "redaction", "hook", "refusal", "renewal", "delivery"),
        *("jupyterhub", "sqlalchemy", "tornado", "traitlets"),
    },
    "mixin": {
        *("tokens", "redaction", "metrics", "traits", "combination", "backend", "renewal"),
        *("sharing", "refusal", "delivery", "start", "api", "jupyterhub", "traitlets"),
    },
    "backends/__init__": set(),
    "backends/hostfiles": set(),
    "backends/filethreads": set(),
    "backends/local": {
        *("mixin", "sweep", "tokens.files", "backends.filethreads", "backends.hostfiles"),
        *("jupyterhub", "sqlalchemy", "traitlets"),
    },
    "backends/docker": {
        *("backend", "mixin", "sweep", "traits", "tokens.files"),
        *("backends.filethreads", "backends.hostfiles"),
        *("docker", "dockerspawner", "traitlets"),
    },
    "backends/kubernetes": {
        *("backend", "mixin", "sweep", "traits", "tokens.files"),
        *("aiohttp", "kubernetes_asyncio", "kubespawner", "traitlets"),
    },
    "singleuser": set(),
    "testing": {
        *("backend", "hub", "sweep", "tokens.files"),
        *("jupyterhub", "pytest", "pytest_asyncio", "sqlalchemy", "traitlets"),
    },
    "doctor": ANYTHING,
    "demo": ANYTHING,
    "__main__": {"doctor", "demo", "backends.kubernetes.rbac", "singleuser.command"},
    "__init__": {"_version", "singleuser", "mixin", "backends", "jupyterhub"},
    "_version": set(),
}

# Inside a room, a module imports only those that stand before it here.
ORDER = {
    "tokens": [
        "presets",
        "scopes",
        "lifetime",
        "lookup",
        "fields",
        "exchange",
        "spec",
        "record",
        "companions",
        "selection",
        "guard",
        "due",
        "kind",
        "git",
        "files",
    ],
    "renewal": [
        *("places", "pace", "auth_state", "database", "grant"),
        *("history", "foreign_saves", "store"),
        *("issuer", "request", "oauthenticator", "authenticators", "writer"),
        *("outcome", "refresh", "user", "recall", "exchanged", "exchange", "schedule", "renewal"),
        *("restoring", "__init__"),
    ],
    "api": ["access", "server", "handlers", "pulls", "__init__"],
    "backends/docker": ["container", "shared", "engine", "leftovers", "spawner", "swarm"],
    "backends/kubernetes": [
        *("rbac", "names", "manifest", "apiserver", "secrets", "traits", "spawner")
    ],
    "singleuser": [
        *("hub", "sources", "auth", "private", "live", "keeper", "ipython", "command"),
        "__init__",
    ],
    "testing": [
        *("contents", "hub", "platform", "checks", "privacy", "removal", "contract"),
        "__init__",
    ],
}

# Nothing but the command line asks for these.
FOR_PEOPLE = {"doctor", "demo", "testing"}

MODULES = sorted(
    path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py")
)


def find_room(module):
    rooms = [room for room in MAY_IMPORT if f"{module}/".startswith(f"{room}/")]
    assert rooms, f"{module}: say in MAY_IMPORT what it may import"
    return max(rooms, key=len)


def imports(module):
    """What a module imports: this package's modules with dots, libraries by their first name."""
    package = ["spawner_tokens", *module.split("/")[:-1]]
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[1 : len(package) - node.level + 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from (".".join([*base, name]) for name in names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_knows_only_what_is_left_of_it(module):
    room = find_room(module)
    may = MAY_IMPORT[room]
    inside = room.replace("/", ".")
    order = ORDER.get(room, [])
    for name in set(imports(module)) - sys.stdlib_module_names:
        if f"{name}.".startswith(f"{inside}."):
            if order:
                left = name[len(inside) + 1 :]
                stem = module.rpartition("/")[2]
                assert order.index(left) < order.index(stem), f"{module} imports {name}"
        elif may is not ANYTHING:
            parents = {name[: len(each)] for each in may if f"{name}.".startswith(f"{each}.")}
            assert parents, f"{module} imports {name}; {room} may import {sorted(may)}"
            assert room == "__main__" or not parents & FOR_PEOPLE


def find_private_members(module):
    """The private names that the classes of a module define, as methods or as attributes."""
    classes = ast.parse((PACKAGE / f"{module}.py").read_text()).body
    for node in (part for each in classes if isinstance(each, ast.ClassDef) for part in each.body):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", node)]
        names = (getattr(each, "id", getattr(each, "name", "")) for each in targets)
        yield from (name for name in names if name.startswith("_") and not name.endswith("__"))


@pytest.mark.parametrize("module", [each for each in MODULES if each.startswith("backends/")])
def test_a_backend_uses_no_private_member_of_the_mixin(module):
    owners = ("mixin", "backend", "traits")
    private = {name for owner in owners for name in find_private_members(owner)}
    assert {"_tokens_start", "_tokens_session", "_find_renewal"} <= private
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    assert not private & {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def test_every_module_says_what_lives_there():
    for path in PACKAGE.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_no_file_is_long():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 300, path


def test_no_function_is_long():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno - node.lineno < 40, f"{path}: {node.name}"


def test_every_class_can_be_imported_by_its_name():
    assert sorted(["__version__", *spawner_tokens._CLASSES]) == sorted(spawner_tokens.__all__)
    assert set(spawner_tokens.__all__) <= set(dir(spawner_tokens))


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, spawner_tokens; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"jupyterhub", "sqlalchemy", "tornado", "traitlets"} & set(found.stdout.split())


def test_the_classes_for_local_processes_need_no_extra():
    names = ["dockerspawner", "kubespawner", "oauthenticator", "django"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({names}));"
        "from spawner_tokens import TokenSpawnerMixin, TokenLocalProcessSpawner"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
