"""JupyterHub's own tests, which its package has, pass with our class in place of the stock one."""

import os
import subprocess
import sys
from pathlib import Path

import jupyterhub
import pytest

_TESTS = Path(jupyterhub.__file__).parent / "tests"
_REPOSITORY = Path(__file__).parents[2]
_PROXY = "configurable-http-proxy"

# As in JupyterHub's pyproject.toml, which its package has not.
_SETTINGS = [
    "asyncio_mode=auto",
    "asyncio_default_fixture_loop_scope=module",
    "asyncio_default_test_loop_scope=module",
]
# It runs jupyterhub-singleuser, which refuses to run as root: it fails with the stock class, too.
_NOT_AS_ROOT = "tests/test_spawner.py::test_single_user_spawner"


def find_proxy():
    """The proxy from npm: the one of that name from PyPI does not support quoted base URLs."""
    for folder in os.get_exec_path():
        proxy = Path(folder, _PROXY)
        if os.access(proxy, os.X_OK) and "node_modules" in proxy.resolve().parts:
            return proxy
    return None


@pytest.mark.skipif(
    jupyterhub.version_info < (6, 0), reason="JupyterHub 5's own tests need an older pytest-asyncio"
)
@pytest.mark.timeout(600)
@pytest.mark.parametrize("suite", ["test_auth_expiry", "test_named_servers", "test_spawner"])
def test_jupyterhub_passes_its_own_tests_with_our_class(suite, tmp_path, need):
    proxy = need(find_proxy(), f"{_PROXY} from npm")
    tmp_path.joinpath(_PROXY).symlink_to(proxy.resolve())
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")
    } | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(_REPOSITORY)}
    command = [sys.executable, "-m", "pytest", "-p", "tests.support.substitute", "--quiet"]
    command += ["-p", "no:cacheprovider", "-c", os.devnull, f"--rootdir={_TESTS.parent}"]
    command += [f"--override-ini={setting}" for setting in _SETTINGS]
    command += [f"--deselect={_NOT_AS_ROOT}"] if os.geteuid() == 0 else []
    command += ["--disable-warnings", "--show-capture=no", str(_TESTS / f"{suite}.py")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
