"""What is read from the Docker Engine's answers, and what is made of it: pure functions."""

import asyncio
import os
import subprocess
import time
from socket import SHUT_WR, socketpair

import pytest
from docker.errors import APIError
from docker.types import SecretReference
from pytest import param
from requests import Response

from spawner_tokens.backends.docker.container import (
    Place,
    find_uid,
    has_mount,
    make_volume,
    starts_as_root,
)
from spawner_tokens.backends.docker.engine import (
    WRITE,
    Engine,
    explain,
    find_first_uid,
    make_lines,
    shares_directory,
    write_inside,
)
from spawner_tokens.backends.docker.leftovers import find_directories
from spawner_tokens.backends.docker.shared import SharedDirectory
from spawner_tokens.backends.docker.swarm import is_given_up, make_references, make_task_template
from spawner_tokens.backends.filethreads import FileThreads

from ..support.waiting import until

JOVYAN = ["NB_UID=1000", "NB_USER=jovyan"]


@pytest.mark.parametrize(
    "user, env, uid",
    [
        param("1000", [], 1000, id="number"),
        param("1000:100", [], 1000, id="number-and-group"),
        param("1000:100", ["NB_UID=2000"], 1000, id="number-beside-nb-uid"),
        param("", [], None, id="root-that-stays"),
        param("root", [], None, id="root-by-name"),
        param("0:0", [], None, id="root-by-number"),
        param("", JOVYAN, 1000, id="root-that-switches"),
        param("root:root", JOVYAN, 1000, id="root-with-a-group-that-switches"),
        param("jovyan", JOVYAN, 1000, id="its-name-in-docker-stacks"),
        param("other", JOVYAN, None, id="another-name"),
        param("jovyan", [], None, id="a-name-that-only-the-container-knows"),
        param("", ["NB_UID=1000", "NB_UID=2000"], 2000, id="the-last-variable-wins"),
        param("", ["NB_UID=0"], None, id="switches-to-root"),
        param("", ["NB_UID=-5"], None, id="negative"),
        param("", ["NB_UID=١٢"], None, id="digits-that-are-not-ascii"),
        param("", ["NB_UID"], None, id="variable-without-value"),
    ],
)
def test_a_servers_uid_is_found_where_more_than_the_container_knows_it(user, env, uid):
    assert find_uid(user, env) == uid


@pytest.mark.parametrize(
    "user, is_root",
    [("", True), ("0", True), ("root:users", True), ("1000", False), ("rooted", False)],
)
def test_who_starts_as_root(user, is_root):
    assert starts_as_root(user) is is_root


def container(mounts=(), user="1000", env=None, **host_config):
    return {
        "Id": "c1",
        "State": {"Running": True, "StartedAt": "2026-01-01"},
        "Config": {"User": user, "Env": env},
        "HostConfig": host_config,
        "Mounts": mounts,
    }


BIND = {"Type": "bind", "Source": "/run/tokens/a", "Destination": "/t"}
VOLUME = {"Type": "volume", "Name": "v1", "Source": "/var/lib/v1", "Destination": "/t"}


@pytest.mark.parametrize(
    "answer, found",
    [
        param(container([BIND]), {"source": "/run/tokens/a", "is_volume": False}, id="bind"),
        param(container([VOLUME]), {"name": "v1", "is_volume": True}, id="volume"),
        param(container([{**VOLUME, "Destination": "/x"}]), {"source": None}, id="elsewhere"),
        param(container(None), {"name": None, "source": None, "uid": 1000}, id="no-mounts"),
        param(container(user="root"), {"uid": None, "is_roots": True}, id="root"),
        param(container(user="", env=JOVYAN), {"uid": 1000, "is_roots": True}, id="switches"),
        param(container(UsernsMode="host"), {"has_hosts_uids": True}, id="not-remapped"),
        param(container(UsernsMode=""), {"has_hosts_uids": False}, id="may-be-remapped"),
    ],
)
def test_what_is_mounted_at_a_path_and_who_reads_it(answer, found):
    place = Place.from_container(answer, "/t")
    assert {name: getattr(place, name) for name in found} == found
    assert (place.container, place.is_running) == ("c1", True)


def test_a_volume_is_known_by_the_labels_that_its_container_asked_for():
    mounts = [{"Target": "/x"}, {"Target": "/t", "VolumeOptions": {"Labels": {"a": "b"}}}]
    assert Place.from_container(container([VOLUME], Mounts=mounts), "/t").labels == {"a": "b"}
    assert Place.from_container(container([VOLUME]), "/t").labels == {}
    assert "set tokens_mount_path" in Place.from_container(container([BIND]), "/t").find_problem(
        "/t", None
    )


@pytest.mark.parametrize(
    "host, is_taken",
    [
        param({}, False, id="nothing"),
        param({"Binds": None, "Mounts": None, "Tmpfs": None}, False, id="null"),
        param({"Binds": ["/a:/t/"]}, True, id="bind"),
        param({"Binds": ["/t:/a:ro", "/t"]}, False, id="source"),
        param({"Mounts": [{"Target": "/x/../t"}]}, True, id="mount"),
        param({"Mounts": ["v:/t:ro"]}, True, id="a-swarms-text"),
        param({"Mounts": [{"Target": "/t/below"}, {"Target": "/"}]}, False, id="below-and-above"),
        param({"Tmpfs": {"/t": ""}}, True, id="tmpfs"),
    ],
)
def test_what_the_admin_mounts_at_a_path_is_seen(host, is_taken):
    assert has_mount(host, "/t") is is_taken


WORK = {"t": (0o640, b"the-token"), "empty": (0o600, b""), "gone": (0o600, None)}
SHELLS = {
    "dash": ["dash", "-c"],
    "bash": ["bash", "-c"],
    "busybox": ["busybox", "sh", "-c"],
    "without-printf": ["bash", "-c", 'enable -n printf; eval "$0"; exit'],
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_writes_the_files_with_what_every_shell_has(tmp_path, shell):
    (tmp_path / "gone").write_text("old")
    command = [
        *SHELLS[shell],
        WRITE,
        *([] if "eval" in SHELLS[shell][-1] else ["-"]),
        str(tmp_path),
    ]
    subprocess.run(command, input=make_lines(WORK).encode(), check=True)
    found = {
        file.name: (file.stat().st_mode & 0o777, file.read_bytes()) for file in tmp_path.iterdir()
    }
    assert found == {name: work for name, work in WORK.items() if work[1] is not None}


class Client:
    """Runs a program whose connection ends before the program does."""

    def __init__(self, code):
        self._states = [{"Running": True, "ExitCode": None}, {"Running": False, "ExitCode": code}]

    def exec_create(self, *args, **kwargs):
        return {"Id": "program"}

    def exec_start(self, program, socket):
        ours, engines = socketpair()
        engines.shutdown(SHUT_WR)
        self._engines = engines
        return ours

    def exec_inspect(self, program):
        return self._states.pop(0)


async def test_a_delivery_ends_when_its_process_does():
    await write_inside(Client(0), "c", "", "/t", WORK)
    with pytest.raises(OSError, match="exit code 1"):
        await write_inside(Client(1), "c", "", "/t", WORK)


def test_a_shell_that_would_show_a_token_as_an_argument_is_told(tmp_path):
    shown = ["bash", "-c", 'enable -n echo; eval "$0"', WRITE, str(tmp_path)]
    code = subprocess.run(shown, input=make_lines(WORK).encode()).returncode
    assert explain(code, "") == "it has no echo of its own" and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "code, output, words",
    [
        param(None, "", "it has not ended after 10 seconds", id="hangs"),
        param(1, "the-token: base64: error", "exit code 1", id="unknown-words"),
        param(
            1,
            "\0\1mv: the-token: No space left on device\n",
            "exit code 1: No space left on device",
            id="full",
        ),
    ],
)
def test_a_failure_is_told_by_the_systems_words_alone(code, output, words):
    assert explain(code, output) == words


def test_a_container_that_is_not_there_has_no_place():
    assert Place.from_container(None, "/t") is None


@pytest.mark.parametrize(
    "user, env, image, userns, first_uid, owner",
    [
        param("1000", {}, {}, "", 0, "mode=755,uid=1000", id="the-settings-user"),
        param(None, {}, {"User": "1001:5"}, "", 0, "mode=755,uid=1001", id="the-images-user"),
        param(None, {}, {"Env": JOVYAN}, "", 0, "mode=755,uid=1000", id="switches"),
        param(None, {"NB_UID": 7}, {"Env": JOVYAN}, "", 0, "mode=755,uid=7", id="settings-win"),
        param("root", {}, {}, "", 0, "mode=755,uid=0", id="root"),
        param("jovyan", {}, {}, "", 0, "mode=1777", id="a-name"),
        param("1000", {}, {}, "", 100_000, "mode=755,uid=101000", id="remapped"),
        param("1000", {}, {}, "host", 100_000, "mode=755,uid=1000", id="not-remapped"),
        param("1000", {}, {}, "", None, "mode=1777", id="rootless"),
    ],
)
def test_a_volume_is_its_readers_or_everybodys(user, env, image, userns, first_uid, owner):
    settings = {"user": user, "environment": env, "host_config": {"UsernsMode": userns}}
    volume = make_volume("/t", {"a": "b"}, settings, image, first_uid)
    options = volume["VolumeOptions"]
    made = options["DriverConfig"]["Options"]
    assert made["o"] == f"size=8m,nosuid,nodev,noexec,{owner}" and made["type"] == "tmpfs"
    assert (volume["Target"], volume["Source"], options["Labels"]) == ("/t", None, {"a": "b"})
    assert options["NoCopy"] is True


REMAPPED = ["name=seccomp,profile=default", "name=userns"]


@pytest.mark.parametrize(
    "options, directory, uid",
    [
        param(None, "/var/lib/docker", 0, id="nothing-said"),
        param(["name=seccomp,profile=default"], "/var/lib/docker", 0, id="not-remapped"),
        param(REMAPPED, "/var/lib/docker/100000.200000", 100_000, id="remapped"),
        param(REMAPPED, "/var/lib/docker", None, id="remapped-with-another-directory"),
        param(["name=rootless"], "/home/a/.local/share/docker", None, id="rootless"),
    ],
)
def test_the_hosts_uid_of_a_containers_root(options, directory, uid):
    assert find_first_uid({"SecurityOptions": options, "DockerRootDir": directory}) == uid


def answering(*statuses):
    """An engine's method that meets these failures, and what it was asked."""
    asked = []

    async def call(method, *args, **kwargs):
        asked.append(method)
        response = Response()
        response.status_code = statuses[len(asked) - 1]
        raise APIError("refused", response)

    return call, asked


@pytest.mark.parametrize(
    "statuses, shares",
    [
        param([404, 400], True, id="the-directory-alone"),
        param([400], False, id="not-there"),
        param([404, 404], False, id="it-does-not-look"),
        param([403], None, id="refused"),
        param([404, 403], None, id="refused-at-last"),
        param([500], None, id="an-error"),
    ],
)
async def test_an_engine_that_does_not_say_what_it_shares_leaves_that_open(statuses, shares):
    call, asked = answering(*statuses)
    assert await shares_directory(call, "/x") is shares and len(asked) == len(statuses)


async def test_what_an_engine_refuses_is_asked_again_but_rarely():
    call, asked = answering(403, 403)
    engine = Engine(call, "it", {}, None)
    assert [await engine.find_first_uid() for _ in range(3)] == [None] * 3 and len(asked) == 1
    [(key, (answer, ends_at))] = engine.known.items()
    engine.known[key] = answer, ends_at - 601
    assert await engine.find_first_uid() is None and len(asked) == 2


async def test_spawns_at_one_time_ask_an_engine_once_whichever_of_them_is_cancelled(tmp_path):
    call, asked = answering(404, 400, 404, 400)
    goes_on = asyncio.Event()

    async def wait_and_call(*args, **kwargs):
        await goes_on.wait()
        assert [*tmp_path.glob("hub/.probe-*")]
        await call(*args, **kwargs)

    engine = Engine(wait_and_call, "it", {}, None)
    shared = SharedDirectory(str(tmp_path), str(tmp_path), "hub")
    first, second, third = (asyncio.ensure_future(engine.shares(shared)) for _ in range(3))
    await until(lambda: [*tmp_path.glob("hub/.probe-*")])
    first.cancel()
    goes_on.set()
    assert [await second, await third, await engine.shares(shared)] == [True] * 3
    assert len(asked) == 2 and not [*tmp_path.iterdir()]
    await engine.shares(SharedDirectory(str(tmp_path), "/elsewhere", "hub"))
    assert len(asked) == 4  # it may be that the engine does not share this one


async def test_what_a_hub_that_was_killed_while_it_asked_has_left_is_swept(tmp_path):
    shared = SharedDirectory(str(tmp_path), str(tmp_path), "hub")
    shared.here.write(".probe-1", {}, (os.geteuid(), os.getegid()))

    async def call(*args, **kwargs):
        return []

    async for left in find_directories(call, FileThreads(), shared):
        assert time.time() - 60 < left.made_at  # so it is spared while its own Hub asks
        await left.remove()
    assert not [*tmp_path.iterdir()]


async def test_a_directory_that_is_swept_meanwhile_fails_no_question(tmp_path):
    shared = SharedDirectory(str(tmp_path), str(tmp_path), "hub")

    async def sweep(*args, **kwargs):
        shared.remove([path.name for path in tmp_path.glob("hub/.probe-*")])
        raise ConnectionError

    engine = Engine(sweep, "it", {}, None)
    for _ in range(2):  # asked again: there was no answer
        with pytest.raises(ConnectionError):
            await engine.shares(shared)


@pytest.mark.parametrize(
    "uid, owner, mode",
    [param(1000, "1000", 0o400, id="known"), param(None, "0", 0o444, id="unknown")],
)
def test_a_services_secrets_are_its_users_and_the_public_file_is_everybodys(uid, owner, mode):
    made = {"t": ("name-t", "id-t"), ".gitconfig": ("name-g", "id-g")}
    token, public = make_references(made, "/run/t", uid)
    assert token == SecretReference("id-t", "name-t", "/run/t/t", owner, "0", mode)
    assert public == SecretReference("id-g", "name-g", "/run/t/.gitconfig", owner, "0", 0o444)


@pytest.mark.parametrize(
    "template, secrets, condition",
    [
        param({"ContainerSpec": {}}, ["ours"], "none", id="nothing-set"),
        param({"ContainerSpec": {"Secrets": None}}, ["ours"], "none", id="null"),
        param({"ContainerSpec": {"Secrets": ["own"]}}, ["own", "ours"], "none", id="own-secrets"),
        param(
            {"ContainerSpec": {}, "RestartPolicy": {"Condition": "any"}},
            ["ours"],
            "any",
            id="own-policy",
        ),
    ],
)
def test_a_task_gets_secrets_beside_its_own_and_is_not_started_again(template, secrets, condition):
    before = repr(template)
    made = make_task_template(template, ["ours"])
    assert made["ContainerSpec"]["Secrets"] == secrets
    assert made["RestartPolicy"]["Condition"] == condition
    assert repr(template) == before


@pytest.mark.parametrize(
    "policy, state, desired, is_lost",
    [
        param({"Condition": "none"}, "running", "shutdown", True, id="lost-with-its-node"),
        param({"Condition": "none"}, "running", "running", False, id="runs"),
        param({"Condition": "none"}, "complete", "shutdown", False, id="has-ended"),
        param({"Condition": "any"}, "running", "shutdown", False, id="another-task-follows"),
        param(None, "running", "shutdown", False, id="the-swarms-own-policy"),
    ],
)
def test_a_task_is_given_up_when_none_will_follow_it(policy, state, desired, is_lost):
    task = {"Spec": {"RestartPolicy": policy}, "Status": {"State": state}, "DesiredState": desired}
    assert is_given_up(task) is is_lost
