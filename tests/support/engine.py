"""A Docker Engine for tests, found by ``DOCKER_HOST`` alone, and images that need no registry.

An image has empty directories alone: its containers mount this machine's ``/usr``, Python and
virtual environment. So the engine has to see this machine's file system.
"""

import io
import secrets
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import docker
from traitlets import HasTraits, default

from .ports import random_port

TESTS = str(Path(__file__).parent)
MOUNTS = sorted({"/usr", sys.base_prefix, sys.prefix, TESTS})
PASSWD = "root:x:0:0::/root:/bin/sh\njovyan:x:1000:100::/home/jovyan:/bin/sh\n"
PASSWD += "other:x:1001:100::/tmp:/bin/sh\n"
GROUP = "root:x:0:\nusers:x:100:\n"


class Engine:
    """``client``: a :class:`docker.APIClient`; ``prefix``: part of all names that a test gives."""

    def __init__(self, **where):
        self.client = docker.APIClient(version="auto", timeout=60, **where)
        self.prefix = f"t{secrets.token_hex(4)}"
        self._images = {}

    def image(self, *changes, user="1000:100"):
        """The name of an image, with changes as in a Dockerfile: ``ENV NB_UID=1000``."""
        changes = (
            f"USER {user}",
            "WORKDIR /home/jovyan",
            "ENV LANG=C.UTF-8 HOME=/home/jovyan",
            *changes,
        )
        if changes not in self._images:
            name = f"localhost:1/spawner-tokens-test-{self.prefix}:{len(self._images) + 1}"
            self.client.import_image_from_data(
                _make_root(), *name.rsplit(":", 1), changes=list(changes)
            )
            self._images[changes] = name
        return self._images[changes]

    def settings(self, image=None, **traits):
        """For ``start_hub``: traits of DockerSpawner."""
        usual = {
            "prefix": self.prefix,
            "image": image or self.image(),
            "volumes": {path: {"bind": path, "mode": "ro"} for path in MOUNTS},
            "pull_policy": "never",
            # a shell as the first process has no other
            "extra_create_kwargs": {"stop_signal": "SIGKILL"},
        }
        return {f"DockerSpawner.{name}": value for name, value in {**usual, **traits}.items()}

    def containers(self):
        """Name → container, of those of this test, also where they do not run."""
        found = self.client.containers(all=True, filters={"name": f"^/{self.prefix}"})
        return {
            name.removeprefix("/"): container for container in found for name in container["Names"]
        }

    def volumes(self):
        """The token volumes of this test's servers."""
        found = self.client.volumes(filters={"label": ["spawner_tokens.server"]})["Volumes"] or []
        return [
            volume
            for volume in found
            if volume["Labels"]["spawner_tokens.server"].startswith(self.prefix)
        ]

    def run(self, container, *command, user=""):
        """A command in a container: its ``code`` and ``out``."""
        created = self.client.exec_create(container, command, user=user)["Id"]
        out = self.client.exec_start(created).decode()
        return SimpleNamespace(code=self.client.exec_inspect(created)["ExitCode"], out=out)

    def remove_containers(self, volumes=True):
        for name in self.containers():
            with suppress(docker.errors.APIError):  # the engine removes it already
                self.client.remove_container(name, force=True, v=volumes)

    def clean(self):
        self.remove_containers()
        for name in self._images.values():
            self.client.remove_image(name, force=True)
        self.client.close()


class OnHostsNetwork(HasTraits):
    """Mix it into a DockerSpawner, by its documentation of ``network_mode=host``."""

    @default("port")
    def _default_port(self):
        return random_port()

    async def get_ip_and_port(self):
        return self.host_ip, self.port


class OwnEngine(Engine):
    """One that no other test uses. Its containers have a network of their own, at ``address``.

    They find this machine at ``machine``. ``data`` is where it keeps all that it has, and ``log``
    its own words.
    """

    def __init__(self, *flags):
        self._folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
        self._folder.chmod(0o711)
        self.log, self.url = self._folder / "log", f"unix://{self._folder}/docker.sock"
        self._flags = flags
        self._name = f"t{secrets.token_hex(3)}"
        self.address = self._make_network()
        self.start()
        super().__init__(base_url=self.url)
        self._spawners_client = docker.APIClient(version="auto", base_url=self.url)
        self.data = Path(self.client.info()["DockerRootDir"])

    def _make_network(self):
        net = f"10.{secrets.randbelow(256)}.{secrets.randbelow(256)}"
        here, there = f"{net}.1", f"{net}.2"
        self.machine = here
        for command in (
            f"netns add {self._name}",
            f"link add {self._name} type veth peer name veth netns {self._name}",
            f"address add {here}/30 dev {self._name}",
            f"link set {self._name} up",
            f"-n {self._name} address add {there}/30 dev veth",
            f"-n {self._name} link set veth up",
            f"-n {self._name} link set lo up",
        ):
            subprocess.run(["ip", *command.split()], check=True)
        return there

    def start(self):
        folder = self._folder
        command = ["nsenter", f"--net=/run/netns/{self._name}", "dockerd", "-H", self.url]
        command += ["-p", folder / "pid", "--data-root", folder / "data"]
        command += ["--exec-root", folder / "run", "--bridge", "none", *self._flags]
        with self.log.open("a") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while subprocess.run(["docker", "-H", self.url, "version"], capture_output=True).returncode:
            assert self._process.poll() is None and time.monotonic() < deadline, (
                self.log.read_text()
            )
            time.sleep(0.05)

    def kill(self):
        self._process.kill()
        self._process.wait()
        (self._folder / "pid").unlink(missing_ok=True)

    def settings(self, image=None, **traits):
        usual = {"network_name": "host", "use_internal_ip": True, "host_ip": self.address}
        return super().settings(image, **{**usual, **traits})

    def spawner_class(self, base):
        """A class for its servers."""
        # DockerSpawner keeps one client for a class
        return type(base.__name__, (OnHostsNetwork, base), {"_client": self._spawners_client})

    def clean(self):
        super().clean()
        self._spawners_client.close()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()
        # of one that was killed
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            if (where := line.split()[1]).startswith(f"{self._folder}/"):
                subprocess.run(["umount", "--lazy", where])
        shutil.rmtree(self._folder)
        subprocess.run(["ip", "link", "delete", self._name], check=True)
        subprocess.run(["ip", "netns", "delete", self._name], check=True)


class Swarm(OwnEngine):
    """An engine that is a Swarm of its own."""

    def __init__(self):
        super().__init__("--debug")
        self.client.init_swarm(advertise_addr="127.0.0.1", listen_addr=f"127.0.0.1:{random_port()}")

    def secrets(self):
        return sorted(secret["Spec"]["Name"] for secret in self.client.secrets())

    def services(self):
        """Name → service."""
        return {service["Spec"]["Name"]: service for service in self.client.services()}

    def tasks(self, service):
        return self.client.tasks(filters={"service": service})

    def set_availability(self, availability):
        """``active``, or ``drain``: its only node then has to end its tasks."""
        (node,) = self.client.nodes()
        spec = {"Role": "manager", "Availability": availability}
        self.client.update_node(node["ID"], node["Version"]["Index"], spec)

    def empty(self):
        self.set_availability("active")
        for name in self.services():
            self.client.remove_service(name)
        for secret in self.client.secrets():
            self.client.remove_secret(secret["ID"])

    def clean(self):
        self.empty()
        self.client.leave_swarm(force=True)  # it waits for the tasks
        super().clean()


def _make_root():
    """A tar of a root file system."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        paths = {"etc", "tmp", "run", "proc", "sys", "dev", "root"}
        paths |= {"home/jovyan", "var/tmp", "var/run"}
        paths |= {path.lstrip("/") for path in MOUNTS}
        above = {str(parent) for path in paths for parent in Path(path).parents} - {"."}
        for path in sorted(paths | above):
            directory = tarfile.TarInfo(path)
            directory.type = tarfile.DIRTYPE
            directory.mode = 0o1777 if path.endswith("tmp") else 0o755
            if path == "home/jovyan":
                directory.uid, directory.gid = 1000, 100
            tar.addfile(directory)
        for name in ("bin", "sbin", "lib", "lib64"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(link)
        texts = {"passwd": PASSWD, "group": GROUP, "nsswitch.conf": "hosts: files dns\n"}
        for name, text in texts.items():
            file = tarfile.TarInfo(f"etc/{name}")
            file.size = len(text)
            tar.addfile(file, io.BytesIO(text.encode()))
    return written.getvalue()
