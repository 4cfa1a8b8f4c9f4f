"""The demo provider's pages: a login form, django-oauth-toolkit's endpoints, and who a token belongs to."""

from __future__ import annotations

from django.contrib.auth.views import LoginView
from django.http import HttpRequest, JsonResponse
from django.urls import include, path
from oauth2_provider.decorators import protected_resource
from oauth2_provider.urls import base_urlpatterns


def userinfo(request: HttpRequest) -> JsonResponse:
    user = request.resource_owner
    return JsonResponse({"username": user.username, "name": user.get_full_name(), "email": user.email or None})


urlpatterns = [
    path("login/", LoginView.as_view()),
    path("o/", include((base_urlpatterns, "oauth2_provider"))),
    path("userinfo/", protected_resource(scopes=["profile"])(userinfo)),
]
