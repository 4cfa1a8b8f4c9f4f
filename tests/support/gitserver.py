"""A git server for tests: ``git http-backend`` behind the provider's word on each token."""

import asyncio
import base64
import os
import subprocess
from contextlib import asynccontextmanager

from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from .ports import random_port

PATH = (
    "/git"  # below which the repositories are, as those of a GitLab that is not alone on its host
)


@asynccontextmanager
async def start_git_server(folder, provider, ip="127.0.0.1"):
    """Serve the bare repositories in ``folder``; a :class:`GitServer`."""
    server = GitServer(folder, provider, ip)
    http = Application([(f"{PATH}(/.*)", _Handler, {"server": server})]).listen(server.port, ip)
    assert isinstance(http, HTTPServer)
    try:
        yield server
    finally:
        http.stop()
        await http.close_all_connections()


class GitServer:
    def __init__(self, folder, provider, ip):
        self.folder = folder
        self.provider = provider
        self.port = random_port()
        self.url = f"http://{ip}:{self.port}{PATH}"
        self.log = []  # (user name or None, scope that was needed, status)

    def create(self, name, *commands):
        """A repository with one commit of what these git commands leave staged."""
        work, bare = self.folder / f"{name}.work", self.folder / f"{name}.git"
        identity = ["-c", "user.name=Setup", "-c", "user.email=setup@example.org"]
        for command in (
            ["-c", "init.defaultBranch=main", "init", "--quiet", work],
            *(["-C", work, *command] for command in commands),
            ["-C", work, *identity, "commit", "--quiet", "--allow-empty", "--message=first"],
            ["clone", "--quiet", "--bare", work, bare],
            ["-C", bare, "config", "http.receivepack", "true"],
        ):
            subprocess.run(["git", *command], check=True)
        return self.head(name)

    def head(self, name):
        command = ["git", "-C", self.folder / f"{name}.git", "rev-parse", "main"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class _Handler(RequestHandler):
    def initialize(self, server):
        self.server = server

    async def get(self, path):
        query = self.request.query
        needed = "write" if "git-receive-pack" in path + query else "read"
        username, status = await self._authorize(needed)
        self.server.log.append((username, needed, status))
        self.set_status(status)
        if status == 200:
            await self._answer(path, query)
        elif status == 401:
            self.set_header("WWW-Authenticate", 'Basic realm="git"')

    post = get

    async def _authorize(self, needed):
        kind, _, encoded = self.request.headers.get("Authorization", "").partition(" ")
        if kind != "Basic":
            return None, 401
        username, _, password = base64.b64decode(encoded).decode().partition(":")
        said = await self.server.provider.introspect(password)
        if not said["active"]:
            return username, 401
        return username, 200 if needed in said["scope"].split() else 403

    async def _answer(self, path, query):
        headers = self.request.headers
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.server.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.request.method,
            "CONTENT_TYPE": headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(self.request.body)),
            "HTTP_CONTENT_ENCODING": headers.get("Content-Encoding", ""),
            "HTTP_GIT_PROTOCOL": headers.get("Git-Protocol", ""),
            "REMOTE_USER": "somebody",
        }
        pipe = asyncio.subprocess.PIPE
        backend = await asyncio.create_subprocess_exec(
            "git", "http-backend", env=env, stdin=pipe, stdout=pipe
        )
        answer, _ = await backend.communicate(self.request.body)
        head, _, body = answer.partition(b"\r\n\r\n")
        for line in head.decode().splitlines():
            name, value = line.split(": ", 1)
            if name == "Status":
                self.set_status(int(value.split()[0]))
            else:
                self.set_header(name, value)
        self.write(body)
