"""The demo's OAuth provider: django-oauth-toolkit with PKCE and rotating refresh tokens.

Run it as ``python -m spawner_tokens.demo.provider --state DIR --redirect-uri URL``. It listens on
a free port of loopback and keeps its state in DIR. There, ``provider.json`` (mode 0600) has its
``url``, ``client_id``, ``client_secret`` and ``passwords`` by user name. Started again with the
same DIR, it has the same port, users, secrets and tokens.

Below ``url``: ``/o/authorize/``, ``/o/token/``, ``/o/revoke_token/``, ``/o/introspect/`` (RFC 7662,
with the client's credentials), ``/userinfo/``, which answers 403 to a dead token, and
``/git/USERNAME/work.git``.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import sys
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

DESCRIPTION = "provider.json"
DATABASE = "provider.sqlite3"

# Bob keeps his e-mail address private, as many do at GitHub: /userinfo/ has null.
USERS = {
    "alice": {"first_name": "Alice", "last_name": "Liddell", "email": "alice@example.org"},
    "bob": {"first_name": "Bob", "last_name": "Roberts", "email": ""},
}


class Server(WSGIServer):
    request_queue_size = 128


class ThreadedServer(ThreadingMixIn, Server):
    daemon_threads = True


class RequestHandler(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        # Without the query, which may have a token or an authorization's state.
        self.log_message("%s %s %s", self.command, urlsplit(self.path).path, code)


# Those of Django that are the same each time.
_SETTINGS: dict[str, Any] = {
    "ALLOWED_HOSTS": ["127.0.0.1"],
    "ROOT_URLCONF": "spawner_tokens.demo.views",
    "LOGIN_URL": "/login/",
    "STATIC_URL": "/static/",
    "USE_TZ": True,
    "INSTALLED_APPS": [
        *("django.contrib.auth", "django.contrib.contenttypes", "django.contrib.staticfiles"),
        "oauth2_provider",
    ],
    "MIDDLEWARE": [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    "TEMPLATES": [
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "DIRS": [Path(__file__).with_name("templates")],
            "APP_DIRS": True,
        }
    ],
    # Names of our own: a cookie is sent to all ports of a host, and the Hub is on this one.
    "SESSION_COOKIE_NAME": "demo_provider_session",
    "CSRF_COOKIE_NAME": "demo_provider_csrf",
    "SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies",
    # The secrets are long and random: slow hashing would only delay each request.
    "PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"],
    "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
    # A new database needs no migrations: 0.1 s instead of 1.5 s.
    "MIGRATION_MODULES": {"auth": None, "contenttypes": None, "oauth2_provider": None},
    "LOGGING": {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"stderr": {"class": "logging.StreamHandler"}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
    },
}


def make_settings(
    state: Path, *, token_lifetime: int = 3600, reuse_protection: bool = False
) -> dict[str, Any]:
    """Django's settings, for ``django.conf.settings.configure(**...)``."""
    # Concurrent requests wait for each other, and do not fail.
    options = {
        "timeout": 30,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL",
    }
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": state / DATABASE}
    scopes = {"profile": "Your name and e-mail address", "read": "Read access"}
    return _SETTINGS | {
        "SECRET_KEY": secrets.token_urlsafe(),
        "REPOSITORIES": state / "repositories",
        "DATABASES": {"default": {**database, "OPTIONS": options}},
        "OAUTH2_PROVIDER": {
            "SCOPES": {**scopes, "write": "Write access"},
            "PKCE_REQUIRED": True,
            "REQUEST_APPROVAL_PROMPT": "auto",
            "ACCESS_TOKEN_EXPIRE_SECONDS": token_lifetime,
            "ROTATE_REFRESH_TOKEN": True,
            "REFRESH_TOKEN_REUSE_PROTECTION": reuse_protection,
            # With True (hashes alone), concurrent refreshes end in status 500 (version 3.4.1).
            "COMPLIANT_BCP_RFC9700_TOKEN_STORAGE": False,
        },
    }


def create_accounts(redirect_uri: str) -> dict[str, Any]:
    """Create the database, the users and the Hub's client. Returns what describes them."""
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.db import connection
    from oauth2_provider.models import Application

    from .views import create_repository

    call_command("migrate", run_syncdb=True, verbosity=0)
    # A renewal deletes the old access token. This table keeps all that were issued.
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE issued (user_id integer, token_checksum text)")
        cursor.execute(
            "CREATE TRIGGER note_issued AFTER INSERT ON oauth2_provider_accesstoken"
            " BEGIN INSERT INTO issued VALUES (new.user_id, new.token_checksum); END"
        )
    passwords = {username: secrets.token_urlsafe(12) for username in USERS}
    for username, profile in USERS.items():
        create_repository(username)
        User.objects.create_user(username, password=passwords[username], **profile)
    client = {"client_id": "jupyterhub", "client_secret": secrets.token_urlsafe(32)}
    Application.objects.create(
        **client,
        name="JupyterHub",
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
        redirect_uris=redirect_uri,
    )
    return {**client, "passwords": passwords}


def parse_options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m spawner_tokens.demo.provider", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="its own")
    parser.add_argument("--redirect-uri", required=True, metavar="URL", help="the Hub's callback")
    words = "of an access token"
    parser.add_argument("--token-lifetime", type=int, default=3600, metavar="SECONDS", help=words)
    words = "a spent refresh token revokes the grant"
    parser.add_argument("--reuse-protection", action="store_true", help=words)
    words = "serve one request at a time"
    parser.add_argument("--single-threaded", action="store_true", help=words)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    options = parse_options(argv)

    os.umask(0o077)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())

    import django
    from django.conf import settings
    from django.contrib.staticfiles.handlers import StaticFilesHandler
    from django.core.wsgi import get_wsgi_application

    settings.configure(
        **make_settings(
            options.state,
            token_lifetime=options.token_lifetime,
            reuse_protection=options.reuse_protection,
        )
    )
    django.setup()

    description = options.state / DESCRIPTION
    if description.exists():
        known = json.loads(description.read_text())
        port = urlsplit(known["url"]).port
    else:
        known = create_accounts(options.redirect_uri)
        port = 0

    server_class = Server if options.single_threaded else ThreadedServer
    application = StaticFilesHandler(get_wsgi_application())
    with make_server("127.0.0.1", port, application, server_class, RequestHandler) as server:
        known["url"] = f"http://127.0.0.1:{server.server_port}"
        unfinished = description.with_suffix(".new")
        unfinished.write_text(json.dumps(known))
        unfinished.replace(description)
        server.serve_forever()


if __name__ == "__main__":
    main()
