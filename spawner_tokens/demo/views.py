"""What the demo's provider serves: login, django-oauth-toolkit's endpoints, user info, and git.

There is one repository for each user, open to that user's live tokens.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from hashlib import sha256

from django.conf import settings
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from oauth2_provider.decorators import protected_resource
from oauth2_provider.models import AccessToken
from oauth2_provider.urls import base_urlpatterns


def userinfo(request: HttpRequest) -> JsonResponse:
    user = request.resource_owner
    return JsonResponse(
        {"username": user.username, "name": user.get_full_name(), "email": user.email or None}
    )


def serve_git(request: HttpRequest, username: str, below: str) -> HttpResponse:
    """``git http-backend`` for ``/git/USERNAME/BELOW``; the password is an access token."""
    if not _is_owner(request.headers.get("Authorization", ""), username):
        return HttpResponse(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})
    backend = subprocess.run(
        ["git", "http-backend"],
        env={
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(settings.REPOSITORIES),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REMOTE_USER": username,
            "PATH_INFO": f"/{username}/{below}",
            "QUERY_STRING": request.META["QUERY_STRING"],
            "REQUEST_METHOD": str(request.method),
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(request.body)),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
        },
        input=request.body,
        capture_output=True,
        check=True,
    )
    head, _, body = backend.stdout.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
    status = headers.pop("Status", "200").split()[0]
    return HttpResponse(body, status=int(status), headers=headers)


def create_repository(username: str) -> None:
    """Make an empty repository, if git is installed."""
    if shutil.which("git"):
        target = settings.REPOSITORIES / username / "work.git"
        subprocess.run(
            ["git", "-c", "init.defaultBranch=main", "init", "--quiet", "--bare", target],
            check=True,
        )


def _is_owner(authorization: str, username: str) -> bool:
    kind, _, encoded = authorization.partition(" ")
    if kind != "Basic":
        return False
    _, _, password = base64.b64decode(encoded).decode().partition(":")
    token = AccessToken.objects.filter(token_checksum=sha256(password.encode()).hexdigest()).first()
    return token is not None and token.is_valid(["read"]) and token.user.username == username


urlpatterns = [
    path("login/", LoginView.as_view()),
    path("o/", include((base_urlpatterns, "oauth2_provider"))),
    path("git/<str:username>/<path:below>", csrf_exempt(serve_git)),
    path("userinfo/", protected_resource(scopes=["profile"])(userinfo)),
]
