"""A real git in a real server against a real git server, which asks the provider of each token."""

import asyncio
import os
import shutil
import subprocess
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tornado.httputil import HTTPHeaders

from ..backends.test_local import LOCAL, SIMPLE, run_as
from ..support import faults
from ..support.gitserver import start_git_server
from ..support.leaks import process_arguments
from ..support.oauth import hub_settings, make_auth_state
from ..support.provider import start_provider
from ..support.waiting import until

pytestmark = pytest.mark.xdist_group("system users")

IDENTITY = {"name": "Alice; <Liddell> #1", "email": "alice@example.org"}


@pytest.fixture
def account(request):
    """Spawner class, user and settings: a system user where the tests run as root."""
    if os.geteuid() != 0 or not shutil.which("useradd"):
        return SIMPLE, "alice", {}
    alice, _, command = request.getfixturevalue("system_users")
    return LOCAL, alice, {"Spawner.cmd": command}


class Place:
    """A user's server, the git server, the provider, and the ``wire`` between it and the Hub."""

    def __init__(self, hub, name, provider, git, wire):
        self.hub, self.name, self.provider, self.git, self.wire = hub, name, provider, git, wire

    async def log_in(self, scope="profile read write"):
        """Log in at the provider, and store what the Hub would store of a GitLab."""
        answer = await self.provider.log_in("alice", scope) | {"created_at": time.time()}
        auth_state = make_auth_state(self.name, answer) | {"gitlab_user": IDENTITY}
        self.user = await self.hub.user(self.name, auth_state)
        return answer["access_token"]

    async def spawn(self):
        self.server = await self.hub.spawn(self.user)
        self.home = (await self.sh("cd && pwd")).out.strip()

    async def sh(self, script):
        return await self.server.run("sh", "-c", f"cd && {script}")

    async def ok(self, script):
        done = await self.sh(script)
        assert done.code == 0, done.error
        return done.out.strip()

    async def push(self):
        return await self.sh(
            "cd repo && git commit --quiet --allow-empty --message=more && git push --quiet"
        )

    @property
    def token_file(self):
        return Path(self.user.spawners[""].tokens_directory, "lab")


@pytest.fixture
async def make_place(account, start_hub, tmp_path):  # the account goes last
    async with AsyncExitStack() as stack:

        async def make(spawner_class=None, settings=None, options=()):
            provider = await stack.enter_async_context(start_provider(tmp_path, *options))
            wire = await stack.enter_async_context(faults.FaultyProxy(provider.url))
            (tmp_path / "git").mkdir()
            git = await stack.enter_async_context(start_git_server(tmp_path / "git", provider))
            git.create("repo")
            usual, name, own = account
            tokens = {"lab": {"preset": "gitlab", "url": git.url}}
            hub = await start_hub(
                spawner_class or usual,
                hub_settings(provider, wire.url)
                | {"TokenSpawnerMixin.tokens": tokens}
                | ({} if spawner_class else own)
                | (settings or {}),
            )
            return Place(hub, "alice" if spawner_class else name, provider, git, wire)

        yield make


@pytest.fixture
async def place(make_place):
    """One with a running server, whose token may read and write."""
    place = await make_place()
    place.token = await place.log_in()
    await place.spawn()
    return place


async def test_clone_commit_push_and_submodules_need_nothing_from_the_user(place):
    before = place.git.head("repo")
    await place.ok(f"git clone --quiet {place.git.url}/repo.git")
    assert (await place.push()).code == 0
    assert place.git.head("repo") != before
    author = await place.ok("git -C repo log -1 --format='%an <%ae>'")
    assert author == "Alice; Liddell #1 <alice@example.org>"  # git itself takes the brackets out
    assert {(name, needed) for name, needed, status in place.git.log if status == 200} == {
        ("oauth2", "read"),
        ("oauth2", "write"),
    }
    assert 401 in {status for _, _, status in place.git.log}  # the server is not open to everybody

    # Submodules with relative and ssh addresses come with the clone.
    head = place.git.head("repo")
    urls = {
        "relative": "../repo.git",
        "ssh": "git@127.0.0.1:repo.git",
        "full": f"{place.git.url}/repo.git",
    }
    commands = []
    for path, url in urls.items():
        commands += [
            ["config", "-f", ".gitmodules", f"submodule.{path}.path", path],
            ["config", "-f", ".gitmodules", f"submodule.{path}.url", url],
            ["update-index", "--add", "--cacheinfo", f"160000,{head},{path}"],
        ]
    place.git.create("outer", *commands, ["add", ".gitmodules"])
    await place.ok(f"git clone --quiet --recurse-submodules {place.git.url}/outer.git")
    for path in urls:
        assert await place.ok(f"git -C outer/{path} rev-parse HEAD") == head
    await place.ok("git -C outer submodule --quiet update --remote --recursive")


async def test_a_token_that_may_only_read_clones_and_does_not_push(make_place):
    place = await make_place()
    await place.log_in("profile read")
    await place.spawn()
    before = place.git.head("repo")
    await place.ok(f"git clone --quiet {place.git.url}/repo.git")
    refused = await place.push()
    assert refused.code == 128 and "403" in refused.error
    assert place.git.head("repo") == before


async def test_after_an_expiry_the_same_process_pushes_again_once_the_token_is_renewed(make_place):
    place = await make_place(options=["--token-lifetime", "8"])
    is_back = asyncio.Event()
    is_back.set()

    async def down(forward):
        return await forward() if is_back.is_set() else faults.Answer(503, b"", HTTPHeaders())

    place.wire.on("/o/token/", down, times=1000)
    await place.log_in()
    await place.spawn()
    await place.ok(f"git clone --quiet {place.git.url}/repo.git")
    is_back.clear()
    before, old = place.git.head("repo"), place.token_file.read_text()

    async def has_ended():
        return not await place.provider.is_live(old)

    await until(has_ended)
    refused = await place.push()
    assert refused.code == 128 and "Authentication failed" in refused.error
    is_back.set()

    async def is_renewed():
        return place.token_file.read_text() != old

    await until(is_renewed)
    assert (await place.push()).code == 0
    assert place.git.head("repo") != before


# -- where the token is not --------------------------------------------------------------------


class Watch:
    """All arguments of all processes, read as often as can be; whether a text was among them."""

    def __init__(self, text):
        self._text = text.encode()
        self.found, self.rounds, self._ended = False, 0, False

    async def __aenter__(self):
        self._task = asyncio.ensure_future(asyncio.to_thread(self._run))
        return self

    def _run(self):
        while not self._ended:
            self.rounds += 1
            self.found |= any(self._text in arguments for arguments in process_arguments().values())

    async def __aexit__(self, *error):
        self._ended = True
        await self._task


async def test_the_token_is_in_no_other_file_and_in_no_process_argument(place, need):
    need(os.geteuid() == 0, "root")
    await place.ok("git config --global credential.helper store")
    async with Watch(place.token) as watch:
        await place.ok(f"git clone --quiet {place.git.url}/repo.git")
        for _ in range(10):
            assert (await place.push()).code == 0
            await place.ok("git -C repo pull --quiet")
    assert watch.rounds > 100 and not watch.found

    async def search():
        places = "/tmp /var/tmp /dev/shm /run"
        has_token = f"-exec grep -lF {place.token} {{}} +"
        owned = f"find {places} -xdev -type f -user {place.name} 2>/dev/null {has_token}"
        done = await asyncio.to_thread(
            subprocess.run, owned, shell=True, capture_output=True, text=True
        )
        return done.stdout.splitlines()

    assert await search() == [str(place.token_file)]
    assert place.token not in await place.ok("cat repo/.git/config .gitconfig")

    # Both can find: a helper with the token as an argument, and the user's own helper without ours.
    leak = '!f() { /usr/bin/printf \'username=x\\npassword=%s\\n\' "$(cat "$LAB_TOKEN_FILE")"; }; f'
    await place.ok(f"cat > leak <<'E'\n{leak}\nE")
    async with Watch(place.token) as watch:
        for _ in range(100):
            await place.ok(
                "for i in 1 2 3 4 5; do echo url=http://h.example | "
                'git -c credential.helper= -c credential.helper="$(cat leak)" credential fill; done'
            )
            if watch.found:
                break
    assert watch.found
    url = 'url=http://x:"$(cat "$LAB_TOKEN_FILE")"@h.example'
    approve = f"printf '%s\\n' {url} '' | git credential approve"
    await place.ok(approve)
    assert set(await search()) == {str(place.token_file), f"{place.home}/.git-credentials"}


# -- what the user and the admin say -----------------------------------------------------------


async def test_the_admins_own_entries_are_continued_and_never_grown(make_place):
    own = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "alias.own",
        "GIT_CONFIG_VALUE_0": "version",
    }
    place = await make_place(settings={"Spawner.environment": dict(own)})
    await place.log_in()
    await place.spawn()
    await place.ok(f"git own && git clone --quiet {place.git.url}/repo.git")
    assert place.user.spawners[""].environment == own
    assert "GIT_CONFIG_KEY_1" not in place.user.spawners[""].get_env()  # of a spawn that is over


async def test_another_user_of_the_machine_can_run_git_with_this_environment(place, system_users):
    _, bob, _ = system_users
    path = (await place.server.env())["GIT_CONFIG_SYSTEM"].decode()
    for name in (place.name, bob):
        env = f"env --chdir=/ GIT_CONFIG_SYSTEM={path} HOME=/nonexistent".split()
        told = run_as(name, *env, "git", "config", "user.email")
        assert told.stdout.strip() == IDENTITY["email"], told.stderr
    # The name has to be known.
    assert "Permission denied" in run_as(bob, "ls", os.path.dirname(path)).stderr
    assert os.path.dirname(path) != (await place.server.env())["SPAWNER_TOKENS_DIR"].decode()


# -- other ways of delivery --------------------------------------------------------------------


async def test_where_only_variables_are_delivered_git_uses_the_variable(make_place):
    place = await make_place("tests.support.spawners.VariablesOnly")
    await place.log_in()
    await place.spawn()
    await place.ok(f"git clone --quiet {place.git.url}/repo.git && git -C repo pull --quiet")
    assert "GIT_CONFIG_SYSTEM" not in await place.server.env()
