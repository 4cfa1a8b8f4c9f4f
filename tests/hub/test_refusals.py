"""What user and admin read when a token is not as asked, wherever JupyterHub shows it."""

import asyncio
import json
import os
import re
import shutil
from html import unescape

import pytest
from jupyterhub.crypto import CryptKeeper

from spawner_tokens.refusal import _WORDS
from spawner_tokens.tokens.selection import Reason

from ..support.waiting import until

SIMPLE = "spawner_tokens.TokenSimpleLocalProcessSpawner"
GOOD = {"access_token": "s3cret-access", "refresh_token": "s3cret-refresh", "scope": ["read"]}


def without_keys():
    CryptKeeper.instance().keys = []


def with_another_key():
    CryptKeeper.instance().keys = [os.urandom(32)]


ABSENT, WORDS = {"id_token": "s3cret-id"}, "your login did not give it"
LOOKED_UP = "looked up 'access_token'; auth_state has 'id_token'"
OFF = {"Authenticator.enable_auth_state": False}
WRITE = {"TokenSpawnerMixin.tokens": {"git-lab": {"env": "T", "required_scopes": "write"}}}
CASES = [
    (Reason.AUTH_STATE_OFF, OFF, None, None, "does not keep the tokens", "enable_auth_state = T"),
    (Reason.NO_CRYPT_KEY, {}, GOOD, without_keys, "has no key to read", "JUPYTERHUB_CRYPT_KEY"),
    (Reason.UNDECRYPTABLE, {}, GOOD, with_another_key, "can no longer be read", "with another key"),
    (Reason.NEVER_STORED, {}, None, None, "nothing was kept of your last", "has not logged in"),
    (Reason.ABSENT, {}, ABSENT, None, WORDS, LOOKED_UP),
    (Reason.EXPIRED, {}, GOOD | {"expires_at": 5}, None, "it has expired", "seconds ago"),
    (Reason.SCOPE_MISSING, WRITE, GOOD, None, "(required: write; granted: 'read')", "granted: 'r"),
]


async def prepare(start_hub, settings, auth_state, trouble=None):
    tokens = {"TokenSpawnerMixin.tokens": {"git-lab": {"env": "T"}}}
    refuse = {"TokenSpawnerMixin.tokens_missing": "refuse"}
    hub = await start_hub(SIMPLE, tokens | refuse | settings)
    user = await hub.user("alice")
    browser = await hub.browser(user)
    if auth_state:
        await user.save_auth_state(auth_state)
    if trouble:
        trouble()
    return hub, user, browser


def shown(answer):
    """A page's text as a reader sees it."""
    return " ".join(unescape(re.sub(r"<[^>]+>", "", answer.body.decode())).split())


@pytest.mark.parametrize(
    "reason, settings, auth_state, trouble, users_words, admins_words",
    CASES,
    ids=[case[0].value for case in CASES],
)
async def test_the_spawn_page_the_api_and_the_log_teach(
    start_hub, caplog, reason, settings, auth_state, trouble, users_words, admins_words
):
    hub, user, browser = await prepare(start_hub, settings, auth_state, trouble)
    status = 500 if reason in (Reason.AUTH_STATE_OFF, Reason.NO_CRYPT_KEY) else 403
    answer = await browser.spawn("alice")
    assert answer.code == status
    assert "needs the token git-lab of alice: " in shown(answer) and users_words in shown(answer)
    assert '<a href="/hub/logout">Log out and log in again</a>' in answer.body.decode()
    assert "alice: token git-lab: " in caplog.text and admins_words in caplog.text
    headers = {"Authorization": f"token {user.new_api_token()}"}
    told = await browser.fetch("/hub/api/users/alice/server", form={}, headers=headers)
    message = json.loads(told.body)["message"]
    assert told.code == status and users_words in message
    assert message.endswith("Log out and log in again: /hub/logout")
    assert hub.token_directories == []
    assert "s3cret" not in caplog.text + message + answer.body.decode()


async def test_the_pending_and_progress_pages_show_it(start_hub):
    released = asyncio.Event()

    async def wait(spawner):
        await released.wait()

    _, _, browser = await prepare(start_hub, {"Spawner.pre_spawn_hook": wait}, ABSENT)
    answer = await browser.fetch("/hub/spawn/alice")
    assert "Your server is starting up" in shown(answer)
    progress_url = re.search(r'EventSource\("([^"]+)"', answer.body.decode())[1]
    received = []
    progress = asyncio.ensure_future(
        browser.fetch(unescape(progress_url.encode().decode("unicode_escape")), received.append)
    )
    await until(lambda: received)
    released.set()
    await progress
    events = [
        json.loads(line[6:])
        for line in b"".join(received).decode().splitlines()
        if line.startswith("data: ")
    ]
    assert events[-1]["failed"] and WORDS in events[-1]["message"]
    assert '<a href="/hub/logout">' in events[-1]["html_message"]
    answer = await browser.fetch("/hub/spawn-pending/alice")
    assert WORDS in shown(answer)
    assert '<a href="/hub/logout">Log out and log in again</a>' in answer.body.decode()


async def test_the_options_form_shows_it_again_with_the_link_as_text(start_hub):
    form = {"Spawner.options_form": "<input name='x'>"}
    _, _, browser = await prepare(start_hub, form, ABSENT)
    page = await browser.fetch("/hub/spawn/alice")
    assert page.code == 200
    answer = await browser.spawn("alice", {"x": "y"})
    assert "Server Options" in shown(answer)
    assert WORDS in shown(answer) and "Log out and log in again: /hub/logout" in shown(answer)


def test_each_reason_has_words_of_its_own():
    assert set(_WORDS) == set(Reason)
    assert (
        len({words.user for words in _WORDS.values()})
        == len({words.admin for words in _WORDS.values()})
        == len(Reason)
    )


async def test_a_real_browser_shows_it_where_the_script_of_the_pending_page_writes(start_hub, need):
    need(shutil.which("chromium") and shutil.which("chromedriver"), "Chromium with its driver")
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    released = asyncio.Event()

    async def wait(spawner):
        await released.wait()

    hub, _, _ = await prepare(start_hub, {"Spawner.pre_spawn_hook": wait}, None)
    loop = asyncio.get_running_loop()
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-background-networking",
        "no-first-run",
    ):
        options.add_argument(f"--{flag}")

    def look():
        driver = webdriver.Chrome(
            options=options, service=webdriver.ChromeService(shutil.which("chromedriver"))
        )
        try:
            driver.get(f"{hub.url}/hub/login?next=/hub/spawn/alice")
            driver.find_element(By.NAME, "username").send_keys("alice")
            driver.find_element(By.NAME, "password").send_keys("x", Keys.ENTER)
            # The page has its first event: JupyterHub tells none to who asks after a spawn's end.
            for words in ("Spawning server", "nothing was kept"):
                WebDriverWait(driver, 90).until(
                    lambda d, words=words: words in d.find_element(By.ID, "progress-message").text
                )
                loop.call_soon_threadsafe(released.set)
            link = driver.find_element(By.CSS_SELECTOR, "#progress-message a")
            return link.text, link.get_attribute("href")
        finally:
            driver.quit()

    text, href = await asyncio.to_thread(look)
    assert (text, href) == ("Log out and log in again", f"{hub.url}/hub/logout")
