"""The demo provider's URLs: login, django-oauth-toolkit's endpoints, user info and git."""

from __future__ import annotations

from django.contrib.auth.views import LoginView
from django.http import HttpRequest, JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from oauth2_provider.decorators import protected_resource
from oauth2_provider.urls import base_urlpatterns

from . import repositories


def userinfo(request: HttpRequest) -> JsonResponse:
    user = request.resource_owner
    return JsonResponse(
        {"username": user.username, "name": user.get_full_name(), "email": user.email or None}
    )


urlpatterns = [
    path("login/", LoginView.as_view()),
    path("o/", include((base_urlpatterns, "oauth2_provider"))),
    path("git/<str:username>/<path:path>", csrf_exempt(repositories.serve)),
    path("userinfo/", protected_resource(scopes=["profile"])(userinfo)),
]
