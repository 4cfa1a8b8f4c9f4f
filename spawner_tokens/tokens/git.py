"""git: the configuration by which git finds tokens, and the user's name. Pure builders."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from .selection import Token
from .spec import TokenSpec

# Asks the Hub for the token whose name is its argument, and prints git's line with it. http.client
# uses no proxy and follows no redirect. git waits for it, so it ends after 20 seconds, whatever the
# Hub does, which takes less.
_ASK = """
import http.client as c, os, signal, ssl, sys, urllib.parse as p
signal.alarm(20)
e, u = os.environ.get, p.urlsplit(os.environ["SPAWNER_TOKENS_URL"])
s = {}
if u.scheme == "https":
    s["context"] = ssl.create_default_context(cafile=e("JUPYTERHUB_SSL_CLIENT_CA") or None)
    if e("JUPYTERHUB_SSL_KEYFILE"):
        s["context"].load_cert_chain(e("JUPYTERHUB_SSL_CERTFILE"), e("JUPYTERHUB_SSL_KEYFILE"))
h = (c.HTTPSConnection if s else c.HTTPConnection)(u.hostname, u.port, **s)
k = {"Authorization": "token " + os.environ["JUPYTERHUB_API_TOKEN"], "Accept": "text/plain"}
try:
    h.request("GET", u.path + "/" + p.quote(sys.argv[1]), headers=k)
    a = h.getresponse()
    t = a.read().decode()
except (OSError, ValueError, c.HTTPException) as x:
    sys.exit("spawner_tokens: the Hub does not answer: " + type(x).__name__)
if a.status != 200 or "\\n" in t:
    sys.exit("spawner_tokens: " + t if a.status != 200 else 1)
print("password=" + t)
"""


def make_config(
    tokens: Iterable[Token], directory: str | None, *, pull: bool = False
) -> list[tuple[str, str]]:
    """Entries of git's configuration, key and value; no token is in them.

    ``directory`` is where the server sees the token files; ``None`` if it got none. ``pull``:
    whether it may ask the Hub.
    """
    helpers = {
        url: (token.spec, helper)
        for token in tokens
        # a newline would end the password, and begin another line for git
        if token.text is not None
        and "\n" not in token.text
        and (helper := _make_helper(token.spec, directory, pull))
        for url in token.spec.git
    }
    # git takes the last helper whose URL matches: the nearest URL has to be the last.
    return [
        entry for url in sorted(helpers, key=len) for entry in _make_entries(url, *helpers[url])
    ]


def make_variables(config: Sequence[tuple[str, str]], env: Mapping[str, object]) -> dict[str, str]:
    """The variables that add these entries to those that ``env`` has (git 2.31 and newer)."""
    if not config:
        return {}
    given = str(env.get("GIT_CONFIG_COUNT", ""))
    first = int(given) if re.fullmatch(r"[ +]?[0-9]{1,9}", given) else 0
    variables = {"GIT_CONFIG_COUNT": str(first + len(config))}
    for number, (key, value) in enumerate(config, first):
        variables[f"GIT_CONFIG_KEY_{number}"] = key
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    return variables


def make_system_config(tokens: Iterable[Token]) -> bytes | None:
    """The contents of a file for ``GIT_CONFIG_SYSTEM``: the user's name and e-mail address.

    ``None`` if no token knows them.
    """
    # These are defaults. Variables (GIT_CONFIG_COUNT, GIT_AUTHOR_NAME) would win over the user's
    # configuration; only the system's is read before it. The image's own is included last.
    identity = next((token.identity for token in tokens if token.identity), None)
    if identity is None:
        return None
    lines = [
        "# From the login, as defaults: what /etc/gitconfig and ~/.gitconfig say wins.",
        "[user]",
        *(f"\t{name} = {_quote(text)}" for name, text in identity.items()),
        "[include]",
        "\tpath = %(prefix)/etc/gitconfig",  # where git was built for another place, as conda's
        "\tpath = /etc/gitconfig",
    ]
    return "\n".join(lines).encode() + b"\n"


def _make_helper(spec: TokenSpec, directory: str | None, pull: bool) -> str | None:
    """A credential helper in POSIX sh that reads the token at each use; ``None`` without a place.

    The token is never a word of a command: if that command is not built in, it would be a process
    argument.
    """
    if directory is not None and spec.file:
        file = shlex.quote(f"{directory}/{spec.name}")
        found, password = f"test -r {file}", f"printf password= && cat {file} && echo"
    elif spec.env:
        variable = spec.env[0]
        found, password = (
            f'test -n "${{{variable}:+set}}"',
            f"env | sed -n 's/^{variable}=/password=/p'",
        )
    elif pull:
        found = password = "false"
    else:
        return None
    if pull:  # the file may be that of the start, too; it is for where no Python is, or no Hub
        # -I: git runs it in the repository, whose modules would come before Python's own.
        ask = f"python3 -I -c {shlex.quote(_ASK)} {spec.name}"
        password = f"{{ {ask} || {{ {found} && {password}; }}; }}"
        found = 'test -n "$SPAWNER_TOKENS_URL"'
    username = shlex.quote(f"username={spec.git_username}")
    return f"!f() {{ test \"$1\" = get && {found} && printf '%s\\n' {username} && {password}; }}; f"


def _make_entries(url: str, spec: TokenSpec, helper: str) -> list[tuple[str, str]]:
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    entries = [
        # The empty one removes the user's own helpers: `store` would write the token to disk.
        (f"credential.{url}.helper", ""),
        (f"credential.{url}.helper", helper),
    ]
    if parts.path:  # git-lfs gives the helper the path only with this
        entries.append((f"credential.{url}.useHttpPath", "true"))
    if not parts.path or url == spec.url:  # else it is only a part of the host
        entries += [
            (f"url.{url}/.insteadOf", ssh) for ssh in (f"git@{host}:", f"ssh://git@{host}/")
        ]
    return entries


def _quote(text: str) -> str:
    """A value as git's configuration files have it."""
    for character, escape in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n")):
        text = text.replace(character, escape)
    return f'"{text}"'
