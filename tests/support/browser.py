"""A browser as far as tests need one: cookies, redirects on request, the Hub's forms."""

from http.cookies import SimpleCookie
from urllib.parse import urlencode, urljoin

from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from .waiting import until


class Browser:
    """One person's browser, at one Hub."""

    def __init__(self, url):
        self.url = url
        self.cookies = {}

    async def fetch(self, path, receive=None, *, form=None, headers=None):
        """The answer, after its redirects; to a POST of the form, if there is one.

        ``receive`` is called with each part of the body, which the answer then does not have.
        """
        url = urljoin(self.url, path)
        for _ in range(20):
            body = urlencode(form) if form is not None else None
            request = HTTPRequest(
                url,
                method="GET" if body is None else "POST",
                body=body,
                follow_redirects=False,
                request_timeout=60,
                streaming_callback=receive,
                headers={
                    "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
                    "Sec-Fetch-Mode": "navigate",
                    **(headers or {}),
                },
            )
            answer = await AsyncHTTPClient().fetch(request, raise_error=False)
            for header in answer.headers.get_list("Set-Cookie"):
                for name, cookie in SimpleCookie(header).items():
                    self.cookies[name] = cookie.value
            if answer.code not in (301, 302, 303, 307):
                return answer
            url, form = urljoin(url, answer.headers["Location"]), None
        raise AssertionError(f"too many redirects: {url}")

    async def spawn(self, name, form=None):
        """The spawn page's answer to who is refused; after a second it would lead to another page.

        ``form``: of the spawn page's options.
        """
        path = f"/hub/spawn/{name}"

        async def ask():
            answer = await (self.fetch(path) if form is None else self.post(path, form))
            return "/spawn-pending/" not in answer.effective_url and answer

        return await until(ask, pause=0.5)

    async def post(self, path, form):
        """Post a form, as a page of the Hub would: with the token against forgery."""
        return await self.fetch(path, form={"_xsrf": self.cookies["_xsrf"], **form})

    async def log_in(self, name):
        await self.fetch("/hub/login")
        answer = await self.post("/hub/login?next=/hub/home", {"username": name, "password": ""})
        assert answer.code == 200, answer.body
