"""Tokens in pods of a real Kubernetes API server, with the rights of Zero to JupyterHub's hub."""

import base64
import json

import kubernetes_validate
import pytest
from pytest import param
from traitlets import TraitError

from spawner_tokens import TokenKubeSpawner

from ..support.cluster import DIRECTORY, IMAGE, PATCH_RULES, Z2JH_RULES, make_namespace
from ..support.waiting import until

KUBE = "spawner_tokens.TokenKubeSpawner"
AUTH_STATE = {"access_token": "the-token", "name": "$(T) of $x"}
TOKENS = {"TokenSpawnerMixin.tokens": {"t": {"env": "T"}}}
NAME = "jupyter-alice-tokens"

both_roles = pytest.mark.parametrize("rules", [Z2JH_RULES, PATCH_RULES], ids=["z2jh", "patch"])


def decoded(secret):
    return {key: base64.b64decode(value) for key, value in secret["data"].items()}


def owners(secret):
    return [owner["uid"] for owner in secret["metadata"].get("ownerReferences", ())]


# -- what a server finds -------------------------------------------------------------------------


@both_roles
async def test_a_server_finds_its_users_token_by_file_and_by_variable_and_nothing_stays(
    start_pod, rules
):
    namespace, hub, user, server = await start_pod(rules)
    env, files = await server.env(), await server.files()
    assert env["T"] == files["t"] == b"the-token"
    assert env["SPAWNER_TOKENS_DIR"] == DIRECTORY.encode()
    assert env["T_TOKEN_FILE"] == f"{DIRECTORY}/t".encode()
    secret = namespace.secrets()[NAME]
    assert secret["metadata"]["labels"]["hub.jupyter.org/username"] == "alice"
    spawned = namespace.audit("secrets")
    if rules is PATCH_RULES:
        await until(lambda: owners(namespace.get("secrets", NAME)))
        assert spawned in (None, ["list secrets 200", "create secrets 201", "patch secrets 200"])
    else:
        assert spawned in (None, ["list secrets 200", "create secrets 201", "patch secrets 403"])
        assert owners(secret) == []
    await user.stop("")
    assert namespace.secrets() == {}
    if (stopped := namespace.audit("secrets")) is not None:
        assert stopped == ["delete secrets 200"] or rules is PATCH_RULES


async def test_a_pod_is_made_with_no_token_and_no_expansion_in_it(kube, start_hub):
    namespace, made = kube(), []
    spec = {"env": ["T", "U", "V"], "variables": {"NAME": "name"}, "settings": {"S": "$(T)$$"}}
    spec["git"] = "https://git.example.org"

    def keep(spawner, pod):
        made.append(spawner.api.api_client.sanitize_for_serialization(pod))
        return pod

    own = {"U": "the admin's", "1_X": {"name": "V", "value": "the admin's"}}
    settings = namespace.settings(modify_pod_hook=keep, environment=own)
    hub = await start_hub(KUBE, {"TokenSpawnerMixin.tokens": {"t": spec}, **settings})
    user = await hub.user("alice", AUTH_STATE)
    server = await hub.spawn(user)
    env = await server.env()
    assert (env["T"], env["NAME"], env["S"]) == (b"the-token", b"$(T) of $x", b"$(T)$$")
    own = user.spawners[""].api_token
    assert env["JUPYTERHUB_API_TOKEN"] == env["JPY_API_TOKEN"] == own.encode()
    assert env["U"] == env["V"] == b"the admin's"
    helped = await server.run(
        "sh", "-c", "printf 'protocol=https\\nhost=git.example.org\\n\\n' | git credential fill"
    )
    assert "password=the-token" in helped.out, helped
    for text in (json.dumps(made), json.dumps(namespace.all("pods"))):
        assert own not in text and base64.b64encode(own.encode()).decode() not in text
        assert "the-token" not in text and base64.b64encode(b"the-token").decode() not in text
    for version in (
        kubernetes_validate.utils.all_versions()[0],
        kubernetes_validate.latest_version(),
    ):
        kubernetes_validate.validate(made[0], version, strict=True)


async def test_the_files_are_as_closed_as_the_servers_user_allows(kube, start_hub):
    namespace = kube()
    auth_state = {**AUTH_STATE, "login": "Al", "email": "al@example.org"}
    spec = {"preset": "github", "key": "access_token", "git_identity": True}
    settings = namespace.settings(uid=1000, fs_gid=100)
    hub = await start_hub(KUBE, {"TokenSpawnerMixin.tokens": {"t": spec}, **settings})
    server = await hub.spawn(await hub.user("alice", {**auth_state, "github_user": auth_state}))
    assert (await server.ask(""))["uid"] == 1000
    assert await server.token() == b"the-token"
    public = (await server.env())["GIT_CONFIG_SYSTEM"].decode()
    found = await server.run("stat", "-L", "-c", "%a", f"{DIRECTORY}/t", public)
    assert found.out == "440\n444\n"
    assert (await server.run("touch", f"{DIRECTORY}/x")).code != 0
    assert (await server.run("git", "config", "user.email")).out == "al@example.org\n"


async def test_files_are_for_the_containers_that_are_named(kube, start_hub):
    namespace = kube()
    show = ["sh", "-c", f"ls {DIRECTORY}/t && env | grep -c TOKEN; sleep 1000"]
    sidecar = {"name": "sidecar", "image": IMAGE, "command": show}
    first = {"name": "first", "image": IMAGE, "command": ["cat", f"{DIRECTORY}/t"]}
    hub = await start_hub(
        KUBE,
        {
            **TOKENS,
            **namespace.settings(extra_containers=[sidecar], init_containers=[first]),
            "KubeTokenMixin.tokens_containers": ["sidecar", "first"],
            "KubeTokenMixin.tokens_notebook_mount": False,
        },
    )
    server = await hub.spawn(await hub.user("alice", AUTH_STATE))
    env = await server.env()
    assert (
        env["T"] == b"the-token" and "T_TOKEN_FILE" not in env and "SPAWNER_TOKENS_DIR" not in env
    )
    assert (await server.run("ls", DIRECTORY)).out == ""
    [pod] = namespace.all("pods")
    assert [
        status["state"]["terminated"]["exitCode"]
        for status in pod["status"]["initContainerStatuses"]
    ] == [0]
    mounts = {
        container["name"]: container.get("volumeMounts") for container in pod["spec"]["containers"]
    }
    assert [mount["mountPath"] for mount in mounts["sidecar"]] == [DIRECTORY] and not mounts[
        "notebook"
    ]


async def test_profiles_hooks_and_volumes_keep_the_last_word(kube, start_hub):
    namespace = kube()
    override = {"tokens": {"more": {"key": "name"}}, "environment": {"T": "the profile's"}}
    override["pod_name"] = "of-the-profile"

    def change(spawner, pod):
        pod.metadata.labels["hooked"] = "yes"
        assert (
            pod.spec.volumes[-1].name == "spawner-tokens"
            and pod.spec.containers[0].volume_mounts[-1].read_only
        )
        return pod

    traits = {
        "profile_list": [{"display_name": "P", "kubespawner_override": override}],
        "modify_pod_hook": change,
        "volumes": [{"name": "mine", "emptyDir": {}}],
        "volume_mounts": [{"name": "mine", "mountPath": "/mnt"}],
        "extra_pod_config": {"terminationGracePeriodSeconds": 1},
    }
    hub = await start_hub(KUBE, {**TOKENS, **namespace.settings(**traits)})
    user = await hub.user("alice", AUTH_STATE)
    server = await hub.spawn(user)
    assert (await server.env())["T"] == b"the profile's"
    assert (await server.files())["more"] == b"$(T) of $x"
    [pod] = namespace.all("pods")
    assert (
        pod["metadata"]["name"] == "of-the-profile" and pod["metadata"]["labels"]["hooked"] == "yes"
    )
    assert pod["spec"]["terminationGracePeriodSeconds"] == 1 and "/mnt" in repr(pod)
    assert list(namespace.secrets()) == ["of-the-profile-tokens"]
    await user.stop("")
    assert namespace.secrets() == {}


async def test_servers_in_namespaces_of_their_users_have_their_secrets_there(kube, start_hub):
    rules = [*Z2JH_RULES, {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["create"]}]
    namespace = kube(rules, everywhere=True)
    there = f"{namespace.name}-alice"
    make_namespace(namespace.cluster, there)
    template = namespace.name + "-{username}"
    settings = namespace.settings(enable_user_namespaces=True, user_namespace_template=template)
    try:
        hub = await start_hub(KUBE, {**TOKENS, **settings})
        user = await hub.user("alice", AUTH_STATE)
        assert await (await hub.spawn(user)).token() == b"the-token"
        path = f"/api/v1/namespaces/{there}/secrets/{NAME}"
        assert namespace.cluster.ask("GET", path) and namespace.secrets() == {}
        await user.stop("")
        assert namespace.cluster.ask("GET", path) is None
    finally:
        namespace.cluster.ask("DELETE", f"/api/v1/namespaces/{there}")


# -- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trait, value, words",
    [
        param("tokens_secret_name_template", "tokens", "for several servers", id="one-for-all"),
        param(
            "tokens_secret_name_template",
            "{username}",
            "for several servers",
            id="one-for-a-user",
        ),
        param("tokens_secret_name_template", "{pod_name", "is not a template", id="no-template"),
        param("tokens_secret_name_template", "{pod_name}_T", "valid name", id="no-name"),
        param("tokens_secret_name_template", "{pod_name}-{nope}", "valid name", id="unknown-field"),
        param("tokens_containers", ["Side Car"], "Side Car", id="container"),
        param("tokens_mount_path", "run/secrets", "absolute", id="relative"),
        param("tokens_mount_path", "/run:secrets", "absolute", id="colon"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_when_it_is_read(trait, value, words):
    with pytest.raises(TraitError, match=words) as caught:
        TokenKubeSpawner.class_traits()[trait]._validate(_bare(), value)
    assert f"TokenKubeSpawner.{trait}" in str(caught.value)


def _bare():
    return TokenKubeSpawner.__new__(TokenKubeSpawner)


def test_what_a_profile_says_of_mounts_is_kept_with_the_server():
    spawner = _bare()
    spawner._tokens_location = {"mount_path": "/x", "notebook_mount": False}
    assert spawner.tokens_notebook_mount  # as it is without the profile
    assert not spawner.shows_files and spawner.tokens_public_path is None


@pytest.mark.parametrize("template", ["tokens-{user_server}", "{username}-{pod_name}"])
def test_what_is_a_servers_own_makes_a_name_for_each(template):
    trait = TokenKubeSpawner.class_traits()["tokens_secret_name_template"]
    assert trait._validate(_bare(), template) == template
