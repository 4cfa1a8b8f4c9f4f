"""Takes the documentation's pictures from the demo, in a real Chromium: ``tox -e pictures``."""

from __future__ import annotations

import base64
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from html import escape
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from spawner_tokens.demo import Demo, run_demo
from spawner_tokens.demo.provider import DATABASE

TARGET = Path(__file__).with_name("_static")
LIFETIME = 40  # of a token, in seconds

DEMO = """
from spawner_tokens.demo import CONFIG

load_subconfig(str(CONFIG))
c.TokenSpawnerMixin.tokens_missing = "refuse"
c.Authenticator.refresh_pre_spawn = False  # else the Hub itself sends bob to the provider
c.Spawner.args.append("--LabApp.expose_app_in_browser=True")
"""
DOCTOR = """
c.JupyterHub.authenticator_class = "gitlab"
c.GitLabOAuthenticator.client_id = "id"
c.GitLabOAuthenticator.client_secret = "secret"
c.GitLabOAuthenticator.allow_all = True
c.GitLabOAuthenticator.scope = ["read_user", "read_repository"]
c.JupyterHub.spawner_class = "tokens-simple"
c.TokenSpawnerMixin.tokens = {"gitlab": {"preset": "gitlab"}}
"""
PROFILE = "PS1='alice:\\W$ '\nPROMPT_COMMAND='echo >>~/.prompts'\n"
COMMANDS = (
    "clear",
    "git clone --quiet $DEMO_URL/git/alice/work.git && cd work",
    "git commit --allow-empty -m 'From a terminal, with no password'",
    "git push",
)
PAGE = """
<body style="margin: 0"><pre style="display: inline-block; margin: 0; padding: 16px; color: #e6edf3;
background: #0d1117; font: 13px/1.4 'DejaVu Sans Mono', monospace">{}</pre>
"""
BOX = """
const boxes = [...document.querySelectorAll(arguments[0])].map(box => box.getBoundingClientRect());
const [x, y] = ["left", "top"].map(side => Math.min(...boxes.map(box => box[side])));
const [right, bottom] = ["right", "bottom"].map(side => Math.max(...boxes.map(box => box[side])));
return {x, y, width: right - x, height: bottom - y, scale: 1};
"""
NO_NEWS = 'document.head.insertAdjacentHTML("beforeend", "<style>.Toastify {display: none}")'


class Window(webdriver.Chrome):
    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in ("headless", "no-sandbox", "disable-gpu", "force-device-scale-factor=1.5"):
            options.add_argument(f"--{flag}")
        super().__init__(options, webdriver.ChromeService(shutil.which("chromedriver")))

    def find(self, selector: str) -> WebElement:
        return self.find_elements(By.CSS_SELECTOR, selector)[-1]

    def wait(self, condition: Callable[[], object]) -> None:
        WebDriverWait(self, 120, ignored_exceptions=[IndexError]).until(lambda _: condition())

    def log_in(self, demo: Demo, username: str) -> None:
        self.execute_cdp_cmd("Network.clearBrowserCookies", {})
        self.get(f"{demo.hub.url}/hub/oauth_login?next=/hub/home")
        self.find("[name=username]").send_keys(username)
        self.find("[name=password]").send_keys(demo.provider.passwords[username], Keys.ENTER)
        self.wait(lambda: self.find("[name=allow]"))
        self.find("[name=allow]").click()
        self.wait(lambda: self.current_url.endswith("/hub/home"))

    def run(self, command: str) -> None:
        """Run a command of JupyterLab."""
        self.execute_script(f"return jupyterapp.commands.execute('{command}').then(() => true)")

    def take(self, name: str, selector: str) -> None:
        """A picture of all elements that a CSS selector finds."""
        clip = {"clip": self.execute_script(BOX, selector)}
        taken = self.execute_cdp_cmd("Page.captureScreenshot", clip)["data"]
        picture = Image.open(BytesIO(base64.b64decode(taken))).convert("RGB").quantize(128)
        picture.save(TARGET / f"{name}.png", optimize=True)


def take_notebook(window: Window, demo: Demo) -> None:
    window.set_window_size(900, 2000)
    window.log_in(demo, "alice")
    window.get(f"{demo.hub.url}/hub/spawn/alice")

    def is_open() -> bool:
        if "spawn-pending" in window.current_url:
            time.sleep(2)
            window.refresh()
        return "(ipykernel) | Idle" in window.find("body").text

    def is_renewed() -> bool:
        window.run("notebook:run-cell")
        text = window.find(".jp-OutputArea table").text
        return "refuses" in text and "knows" in text

    window.wait(is_open)
    window.execute_script(NO_NEWS)
    window.run("application:toggle-left-area")
    window.run("notebook:run-all-cells")
    window.wait(lambda: window.find(".jp-Cell:last-child table"))
    window.wait(is_renewed)
    window.take("notebook", ".jp-Notebook .jp-Cell:nth-child(n+7)")


def take_terminal(window: Window, demo: Demo) -> None:
    prompts = demo.folder / "home/alice/.prompts"
    prompts.with_name(".bash_profile").write_text(PROFILE)
    prompts.touch()
    window.set_window_size(900, 440)
    window.run("terminal:create-new")
    [token] = demo.folder.glob("tokens/*/*/demo")
    old = token.read_text()
    window.wait(lambda: token.read_text() != old)  # so that no renewal comes between
    for count, command in enumerate(COMMANDS, 1):
        window.wait(lambda: len(prompts.read_text()) >= count)  # noqa: B023
        ActionChains(window).send_keys(command, Keys.ENTER).perform()
    window.wait(lambda: len(prompts.read_text()) > len(COMMANDS))
    time.sleep(1)  # until it is drawn
    window.take("git-push", ".jp-Terminal")


def take_refusal(window: Window, demo: Demo) -> None:
    """Of bob, whose login the provider has ended, as its administrator may."""
    window.set_window_size(1000, 560)
    window.log_in(demo, "bob")
    with closing(sqlite3.connect(demo.folder / DATABASE)) as database, database:
        database.execute("DELETE FROM oauth2_provider_refreshtoken")
    time.sleep(LIFETIME)
    window.get(f"{demo.hub.url}/hub/spawn/bob")
    window.wait(lambda: "Log in again" in window.find("body").text)
    window.execute_script("document.body.style.paddingBottom = '2em'")
    window.take("refused", "body")


def take_doctor(window: Window, folder: Path) -> None:
    (folder / "jupyterhub_config.py").write_text(DOCTOR)
    command = [sys.executable, "-m", "spawner_tokens", "doctor"]
    printed = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True).stdout
    page = PAGE.format(escape(f"$ spawner-tokens doctor\n{printed}"))
    window.set_window_size(1100, 1000)
    window.get(f"data:text/html;charset=utf-8,{quote(page)}")
    window.take("doctor", "pre")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Window() as window:
        config = Path(folder, "demo.py")
        config.write_text(DEMO)
        with run_demo(token_lifetime=LIFETIME, config=config) as demo:
            take_notebook(window, demo)
            take_terminal(window, demo)
            take_refusal(window, demo)
        take_doctor(window, Path(folder))


if __name__ == "__main__":
    main()
