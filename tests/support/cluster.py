"""A Kubernetes cluster for tests, found by ``KUBECONFIG``: a namespace for each test.

Pods need nothing of this machine: tests/server.py is an argument of theirs.
"""

import base64
import json
import os
import re
import secrets
import ssl
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import yaml
from kubespawner import KubeSpawner, clients

DIRECTORY = "/run/secrets/spawner-tokens"

# Public, with a Python and git; a stand-in for a kubelet may take its own machine's.
IMAGE = "docker.io/library/python:3.12"
SERVER = ["python3", "-c", Path(__file__).with_name("server.py").read_text()]

# What Zero to JupyterHub's chart lets its hub do.
Z2JH_RULES = [
    {
        "apiGroups": [""],
        "resources": ["pods", "persistentvolumeclaims", "secrets", "services"],
        "verbs": ["get", "watch", "list", "create", "delete"],
    },
    {"apiGroups": [""], "resources": ["events"], "verbs": ["get", "watch", "list"]},
]
PATCH_RULES = [
    *Z2JH_RULES,
    {"apiGroups": [""], "resources": ["secrets", "pods"], "verbs": ["patch"]},
]
# KubeSpawner's own needs, where it makes neither claims nor services.
KUBESPAWNER_RULES = [
    {
        "apiGroups": [""],
        "resources": ["pods"],
        "verbs": ["get", "watch", "list", "create", "delete"],
    },
    {"apiGroups": [""], "resources": ["events"], "verbs": ["get", "watch", "list"]},
]


class Cluster:
    """The cluster as its administrator has it."""

    def __init__(self, kubeconfig):
        config = yaml.safe_load(Path(kubeconfig).read_text())
        context = _named(config["contexts"], config["current-context"])["context"]
        self._cluster = _named(config["clusters"], context["cluster"])["cluster"]
        self.url = self._cluster["server"]
        self._user = _named(config["users"], context["user"])["user"]
        self.tls = ssl.create_default_context(cadata=self._authority())
        if "client-certificate-data" in self._user:
            with tempfile.NamedTemporaryFile() as file:
                for name in ("client-certificate-data", "client-key-data"):
                    file.write(base64.b64decode(self._user[name]) + b"\n")
                file.flush()
                self.tls.load_cert_chain(file.name)

    def _authority(self):
        if data := self._cluster.get("certificate-authority-data"):
            return base64.b64decode(data).decode()
        return Path(self._cluster["certificate-authority"]).read_text()

    def ask(self, verb, path, body=None):
        """The object, or ``None`` if it is not there. Any other refusal raises."""
        headers = {
            "Content-Type": "application/merge-patch+json"
            if verb == "PATCH"
            else "application/json"
        }
        if token := self._user.get("token"):
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=verb)
        try:
            with urllib.request.urlopen(request, context=self.tls, timeout=20) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404:
                    return None
                raise AssertionError(
                    f"{verb} {path}: {error.code} {error.read().decode()}"
                ) from None

    def account(self, folder, namespace, rules, *, url=None, everywhere=False):
        """A kubeconfig's path, for an account with these rights; ``url`` replaces the cluster's."""
        below, rbac = f"/api/v1/namespaces/{namespace}", "/apis/rbac.authorization.k8s.io/v1"
        name = f"hub-{secrets.token_hex(4)}"
        self.ask("POST", f"{below}/serviceaccounts", {"metadata": {"name": name}})
        kind = "ClusterRole" if everywhere else "Role"
        meta = {
            "metadata": {
                "name": f"{namespace}-{name}",
                "labels": {"spawner-tokens-test": namespace},
            }
        }
        to = rbac if everywhere else f"{rbac}/namespaces/{namespace}"
        self.ask("POST", f"{to}/{kind.lower()}s", {**meta, "rules": rules})
        role = {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": kind,
            "name": f"{namespace}-{name}",
        }
        subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
        self.ask(
            "POST", f"{to}/{kind.lower()}bindings", {**meta, "roleRef": role, "subjects": [subject]}
        )
        lease = {"spec": {"expirationSeconds": 3600}}
        token = self.ask("POST", f"{below}/serviceaccounts/{name}/token", lease)["status"]["token"]
        cluster = {"server": url} if url else self._cluster
        path = Path(folder, f"{namespace}-{name}.json")
        path.write_text(
            json.dumps(
                {
                    "current-context": "test",
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                    "clusters": [{"name": "test", "cluster": cluster}],
                    "users": [{"name": "test", "user": {"token": token}}],
                }
            )
        )
        return path


def _named(items, name):
    return next(item for item in items if item["name"] == name)


def use(kubeconfig):
    """From now on, KubeSpawner's clients are of this account."""
    from kubernetes_asyncio.config import kube_config

    kube_config.KUBE_CONFIG_DEFAULT_LOCATION = str(kubeconfig)
    clients.load_config.cache_clear()
    clients._client_cache.clear()


class Namespace:
    """A test's own: what is in it, and a Hub's ``account``."""

    def __init__(self, cluster, folder, rules=Z2JH_RULES, *, url=None, everywhere=False):
        self.cluster = cluster
        self.name = f"t{secrets.token_hex(5)}"
        self.path = f"/api/v1/namespaces/{self.name}"
        make_namespace(cluster, self.name)
        self.kubeconfig = cluster.account(folder, self.name, rules, url=url, everywhere=everywhere)
        self.account = self.kubeconfig.stem.removeprefix(f"{self.name}-")
        self._audited = self._find_end()
        use(self.kubeconfig)

    def settings(self, **traits):
        """For ``start_hub``: traits of KubeSpawner."""
        usual = {
            "namespace": self.name,
            "image": IMAGE,
            "cmd": SERVER,
            "start_timeout": 60,
            "delete_grace_period": 0,
            "k8s_api_request_retry_timeout": 10,
        }
        settings = {f"KubeSpawner.{name}": value for name, value in {**usual, **traits}.items()}
        # Not below /var/run: a stand-in for a kubelet may follow that link out of the container.
        return {"TokenSpawnerMixin.tokens_mount_path": DIRECTORY, **settings}

    def all(self, kind):
        return self.cluster.ask("GET", f"{self.path}/{kind}")["items"]

    def get(self, kind, name):
        return self.cluster.ask("GET", f"{self.path}/{kind}/{name}")

    def secrets(self):
        """Name → Secret, of those with our label."""
        found = self.cluster.ask("GET", f"{self.path}/secrets?labelSelector=spawner-tokens%2Fhub")[
            "items"
        ]
        return {secret["metadata"]["name"]: secret for secret in found}

    def create(self, kind, name, **body):
        metadata = {"name": name, **body.pop("metadata", {})}
        return self.cluster.ask("POST", f"{self.path}/{kind}", {"metadata": metadata, **body})

    def delete(self, kind, name):
        self.cluster.ask("DELETE", f"{self.path}/{kind}/{name}?gracePeriodSeconds=0")

    def grant(self, *rules):
        """From soon on, the account has these rights."""
        roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{self.name}/roles"
        role = f"{roles}/{self.name}-{self.account}"
        self.cluster.ask("PATCH", role, {"rules": rules})

    def sleeper(self, name, **metadata):
        """A pod of somebody's."""
        container = {"name": "main", "image": IMAGE, "command": ["sleep", "1000"]}
        spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
        return self.create("pods", name, metadata=metadata, spec=spec)

    # -- what the Hub has asked -----------------------------------------------------------------

    def _find_end(self):
        log = os.environ.get("KUBE_AUDIT_LOG")
        return os.path.getsize(log) if log else 0

    def audit(self, *resources):
        """``verb resource status`` of each request since the last call; ``None`` without a log."""
        if not os.environ.get("KUBE_AUDIT_LOG"):
            return None
        found = [(event["objectRef"]["resource"], event) for event in self.events()]
        return [
            f"{event['verb']} {resource} {event['responseStatus']['code']}"
            for resource, event in found
            if resource in resources
        ]

    def events(self):
        """The same, as the audit log has it, of all objects."""
        time.sleep(0.3)  # a line comes just after its answer
        with open(os.environ["KUBE_AUDIT_LOG"]) as file:
            file.seek(self._audited)
            text = file.read()
        complete = text[: text.rfind("\n") + 1]
        self._audited += len(complete.encode())
        account = f"system:serviceaccount:{self.name}:{self.account}"
        return [
            event
            for event in map(json.loads, complete.splitlines())
            if event["user"]["username"] == account
            and event["stage"] == "ResponseComplete"
            and "objectRef" in event
        ]


def make_namespace(cluster, name):
    cluster.ask(
        "POST",
        "/api/v1/namespaces",
        {"metadata": {"name": name, "labels": {"spawner-tokens-test": name}}},
    )
    # Pods are refused until its account exists; up to Kubernetes 1.23, until its token does.
    has_tokens = int(re.match("[0-9]+", cluster.ask("GET", "/version")["minor"])[0]) < 24
    deadline = time.monotonic() + 20
    while True:
        account = cluster.ask("GET", f"/api/v1/namespaces/{name}/serviceaccounts/default")
        if account and (account.get("secrets") or not has_tokens):
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def clean(cluster, namespaces):
    for namespace in namespaces:
        cluster.ask("DELETE", f"/api/v1/namespaces/{namespace}")
        for kind in ("clusterrolebindings", "clusterroles"):
            label = f"spawner-tokens-test%3D{namespace}"
            path = f"/apis/rbac.authorization.k8s.io/v1/{kind}?labelSelector={label}"
            cluster.ask("DELETE", path)


async def stop_clients():
    """KubeSpawner's watches and connections, which it keeps for the process."""
    await KubeSpawner._stop_all_reflectors()
    for client in list(clients._client_cache.values()):
        await client.api_client.close()
    clients._client_cache.clear()
