"""A browser for the check: it fills in forms, starts and stops a server, runs code in a kernel."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import requests
import websocket

from .processes import DemoError, wait_until


class Fields(HTMLParser):
    """The named fields of a page's form, as a browser would send them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.values: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "input" and (name := attributes.get("name")):
            self.values[name] = attributes.get("value") or ""


class Browser:
    """One user at the Hub. Errors name methods, paths and statuses: a query may hold a code."""

    def __init__(self, hub_url: str, username: str) -> None:
        self.hub_url = hub_url
        self.username = username
        self.session = requests.Session()
        self.session.trust_env = False

    def log_in(self, password: str) -> None:
        """Through the provider's login and consent forms, to the Hub's home page."""
        login_form = self.get("/hub/oauth_login?next=/hub/home")
        consent_form = self.submit(login_form, username=self.username, password=password)
        home = self.submit(consent_form)
        if (path := urlsplit(home.url).path) != "/hub/home":
            raise DemoError(f"the login ended at {path}, not on the Hub's home page")

    def start_server(self) -> None:
        self.get(f"/hub/spawn/{self.username}")

    def enter_server(self) -> None:
        """Wait for the server, and log in to it: by redirects through the Hub."""
        wait_until(self._server_is_ready, f"the server of {self.username} is ready")
        self.get(f"/user/{self.username}/lab")

    def stop_server(self) -> None:
        self.request("DELETE", f"/hub/api/users/{self.username}/server")
        wait_until(lambda: self._server() is None, f"the server of {self.username} has stopped")

    def _server_is_ready(self) -> bool:
        server = self._server()
        if server is None:
            raise DemoError(f"the server of {self.username} did not start")
        return bool(server["ready"])

    def _server(self) -> Any:
        """The Hub's model of the server; ``None`` if it does not run."""
        return self.get(f"/hub/api/users/{self.username}").json()["servers"].get("")

    def submit(self, page: requests.Response, **filled: str) -> requests.Response:
        """Fill in the form of a page, and send it."""
        values = Fields(page.text).values
        if missing := filled.keys() - values.keys():
            raise DemoError(
                f"the form at {urlsplit(page.url).path} has no {', '.join(sorted(missing))}"
            )
        return self.request("POST", page.url, data=values | filled)

    def get(self, path: str) -> requests.Response:
        return self.request("GET", path)

    def request(self, method: str, url: str, **options: Any) -> requests.Response:
        if url.startswith("/"):
            url = self.hub_url + url
        # Each part of the site has an XSRF cookie of its own: /hub/ and /user/<name>/.
        for cookie in self.session.cookies:
            if cookie.name == "_xsrf" and urlsplit(url).path.startswith(cookie.path):
                options["headers"] = {"X-XSRFToken": cookie.value}
        try:
            response = self.session.request(method, url, timeout=60, **options)
        except requests.RequestException as error:
            raise DemoError(f"{method} {urlsplit(url).path}: {type(error).__name__}") from None
        if not response.ok:
            raise DemoError(
                f"{method} {urlsplit(response.url).path} was answered with {response.status_code}"
            )
        return response

    @contextmanager
    def kernel(self) -> Iterator[Kernel]:
        """A new kernel in the server, through the proxy."""
        kernel = self.request("POST", f"/user/{self.username}/api/kernels", json={}).json()
        url = f"{self.hub_url}/user/{self.username}/api/kernels/{kernel['id']}/channels"
        cookies = requests.cookies.get_cookie_header(
            self.session.cookies, requests.Request("GET", url).prepare()
        )
        try:
            connection = websocket.create_connection(
                url.replace("http", "ws", 1),
                cookie=cookies,
                origin=self.hub_url,
                http_no_proxy=["127.0.0.1"],
                timeout=60,
            )
            with closing(connection):
                yield Kernel(connection)
        except (websocket.WebSocketException, ConnectionError) as error:
            raise DemoError(f"the kernel of {self.username}: {type(error).__name__}") from None


class Kernel:
    """A kernel in a user's server, by its WebSocket."""

    def __init__(self, connection: websocket.WebSocket) -> None:
        self._connection = connection

    def run(self, code: str) -> str:
        """What the code printed, and its result as HTML. :exc:`DemoError` if it raised."""
        request = uuid.uuid4().hex
        header = {"msg_id": request, "msg_type": "execute_request", "session": request}
        header["version"] = "5.3"
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
        message = {"channel": "shell", "header": header, "content": content}
        self._connection.send(json.dumps({**message, "parent_header": {}, "metadata": {}}))
        output = ""
        while True:
            message = json.loads(self._connection.recv())
            if message["parent_header"].get("msg_id") != request:
                continue
            content = message["content"]
            match message["msg_type"]:
                case "stream":
                    output += content["text"]
                case "execute_result":
                    output += content["data"].get("text/html", "")
                case "error":
                    raise DemoError(f"the code in the server raised {content['ename']}")
                case "status" if content["execution_state"] == "idle":
                    return output
