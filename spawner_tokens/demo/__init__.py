"""The demo: a real OAuth provider, proxy and Hub on loopback, in a temporary folder.

:func:`run_demo` starts and ends all of it, for the command and for tests; :func:`run_provider`
starts the provider alone.

- ``command.py``: what a person starts; ``steps.py``: the lines that it prints
- ``provider.py``, ``views.py``, ``templates``: the provider
- ``jupyterhub_config.py``: the Hub's configuration; ``tokens.ipynb``, ``table.py``: the notebook
- ``check.py``: the walk without a person, with ``browser.py`` from outside a server, and
  ``look.py`` and ``push.py`` inside it
- ``processes.py``: folder, ports and processes
"""

from __future__ import annotations

import json
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from .processes import Child, answers, make_folder, reserve_ports

HERE = Path(__file__).parent
CONFIG = HERE / "jupyterhub_config.py"
NOTEBOOK = HERE / "tokens.ipynb"

Step = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class Provider:
    """A running provider, as its ``provider.json`` describes it."""

    child: Child
    url: str
    client_id: str
    client_secret: str = field(repr=False)
    passwords: dict[str, str] = field(repr=False)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@dataclass(frozen=True)
class Hub:
    """A running Hub with its proxy. ``url``: for a browser; ``ports``: proxy, Hub, proxy's API."""

    child: Child
    url: str
    ports: Sequence[int]


@dataclass(frozen=True)
class Demo:
    folder: Path
    provider: Provider
    hub: Hub


@contextmanager
def run_demo(
    *, token_lifetime: int = 3600, config: Path = CONFIG, step: Step = lambda name: nullcontext()
) -> Iterator[Demo]:
    """Start provider, proxy and Hub; at the end, stop all processes and remove the folder.

    ``token_lifetime``: seconds; ``config``: the Hub's configuration; ``step(name)``: a context
    around each start. Raises :exc:`~.processes.DemoError` if one of them does not start.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(make_folder())
        ports = stack.enter_context(reserve_ports(3))
        callback = f"http://127.0.0.1:{ports[0]}/hub/oauth_callback"
        with step("the OAuth provider is up"):
            provider = stack.enter_context(
                run_provider(folder, callback, "--token-lifetime", str(token_lifetime))
            )
        with step("the proxy and the Hub are up"):
            for username in provider.passwords:
                home = folder / "home" / username
                home.mkdir(parents=True)
                shutil.copy(NOTEBOOK, home)
            hub = stack.enter_context(run_hub(folder, provider, ports, config))
        yield Demo(folder, provider, hub)


@contextmanager
def run_provider(folder: Path, callback: str, *options: str) -> Iterator[Provider]:
    """Start the provider with its state in ``folder``: with the same folder, it is the same one.

    ``callback``: where the Hub's users come back to; ``options``: of the provider's command line.
    """
    command = [
        *(sys.executable, "-m", f"{__name__}.provider"),
        *("--state", str(folder), "--redirect-uri", callback),
    ]
    with closing(Child("provider", [*command, *options], folder)) as child:

        def describe() -> Provider | None:
            description = folder / "provider.json"
            if not description.exists():
                return None
            provider = Provider(child, **json.loads(description.read_text()))
            return provider if answers(f"{provider.url}/login/") else None

        yield child.wait_until(describe, "the provider is up")


@contextmanager
def run_hub(
    folder: Path, provider: Provider, ports: Sequence[int], config: Path = CONFIG
) -> Iterator[Hub]:
    """Start the Hub, which starts its proxy. ``ports``: of the proxy, the Hub, the proxy's API."""
    public, internal, proxy_api = ports
    url = f"http://127.0.0.1:{public}"
    command = [
        *(sys.executable, "-m", "jupyterhub", "--config", str(config.resolve())),
        f"--JupyterHub.bind_url={url}",
        f"--JupyterHub.hub_bind_url=http://127.0.0.1:{internal}",
        f"--ConfigurableHTTPProxy.api_url=http://127.0.0.1:{proxy_api}",
        f"--SimpleLocalProcessSpawner.home_dir_template={folder}/home/{{username}}",
        # Not in /run or /dev/shm, where token files belong, but in the folder that is removed.
        f"--TokenSpawnerMixin.tokens_mount_path={folder}/tokens",
    ]
    environment = {
        "DEMO_PROVIDER_URL": provider.url,
        "OAUTH_CLIENT_ID": provider.client_id,
        "OAUTH_CLIENT_SECRET": provider.client_secret,
        "OAUTH_CALLBACK_URL": f"{url}/hub/oauth_callback",
        "JUPYTERHUB_CRYPT_KEY": secrets.token_hex(32),
    }
    with closing(Child("hub", command, folder, environment)) as child:
        # First the Hub itself: until it is up, the proxy logs each request as an error.
        for origin in (f"http://127.0.0.1:{internal}", url):
            child.wait_until(partial(answers, f"{origin}/hub/health"), "the Hub is up")
        yield Hub(child, url, ports)
