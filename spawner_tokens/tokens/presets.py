"""The presets: where each provider's login has its token, and where each tool looks for one.

A preset is a part of a spec, with the same fields (``spec.py``); a field that an admin writes wins
over the preset's. In ``settings`` and ``git``, ``{url}`` stands for the spec's ``url``, and in
``settings`` ``{host}`` for its host. The admin has to give a ``url`` or a setting of ``None``.

To add one, add an entry to one of the two tables here and a row to
``tests/tokens/test_presets.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

_OIDC_USER_INFO = ("oauth_user", "auth0_user", "cilogon_user")


def _claim(
    *names: str, user_info: tuple[str, ...] = _OIDC_USER_INFO
) -> Callable[[dict[str, Any]], Any]:
    """A key for the first of these claims that the provider gave.

    The user info is under another key in each class: ``oauth_user`` in ``GenericOAuthenticator``,
    ``auth0_user`` in ``Auth0OAuthenticator``, ``cilogon_user`` in ``CILogonOAuthenticator``.
    """

    def claim(auth_state: dict[str, Any]) -> Any:
        for user in map(auth_state.get, user_info):
            if isinstance(user, dict):
                found = [user[name] for name in names if user.get(name)]
                if found:
                    return found[0]
        return None

    return claim


def _github_email(auth_state: dict[str, Any]) -> Any:
    """The address, or the one that GitHub puts into commits if it is private."""
    user = auth_state["github_user"]
    host = urlsplit(user.get("html_url") or "").hostname or "github.com"
    return user.get("email") or f"{user['id']}+{user['login']}@users.noreply.{host}"


PROVIDERS: Mapping[str, Mapping[str, Any]] = {
    # oauthenticator.github.GitHubOAuthenticator: the answer of GET /user under "github_user";
    # its e-mail is null when it is private and the scope user:email was not granted.
    "github": {
        "url": "https://github.com",
        "env": ["GITHUB_TOKEN"],
        "variables": {
            "GITHUB_USER": "github_user.login",
            "GITHUB_EMAIL": "github_user.email",
            "GITHUB_NAME": "github_user.name",
        },
        "settings": {"GITHUB_HOST": "{host}"},
        "git": "{url}",
        "git_username": "x-access-token",
        "git_identity": {
            "name": _claim("name", "login", user_info=("github_user",)),
            "email": _github_email,
        },
    },
    # oauthenticator.gitlab.GitLabOAuthenticator: the answer of GET /api/v4/user, "gitlab_user".
    "gitlab": {
        "url": "https://gitlab.com",
        "env": ["GITLAB_TOKEN", "GITLAB_ACCESS_TOKEN"],
        "variables": {
            "GITLAB_USER": "gitlab_user.username",
            "GITLAB_EMAIL": "gitlab_user.email",
            "GITLAB_NAME": "gitlab_user.name",
        },
        "settings": {"GITLAB_HOST": "{host}"},
        "git": "{url}",
        "git_identity": {
            "name": "gitlab_user.name",
            # The first is the user's choice.
            "email": _claim("commit_email", "email", user_info=("gitlab_user",)),
        },
    },
    # oauthenticator.bitbucket.BitbucketOAuthenticator: the answer of GET /2.0/user under
    # "bitbucket_user"; it has no e-mail.
    "bitbucket": {
        "url": "https://bitbucket.org",
        "env": ["BITBUCKET_TOKEN"],
        "variables": {
            "BITBUCKET_USER": "bitbucket_user.username",
            "BITBUCKET_NAME": "bitbucket_user.display_name",
        },
        "settings": {"BITBUCKET_HOST": "{host}"},
        "git": "{url}",
        "git_username": "x-token-auth",
    },
    # oauthenticator.google.GoogleOAuthenticator: the answer of GET /oauth2/v1/userinfo under
    # "google_user"; the name is there with the scope profile.
    "google": {
        "env": ["GOOGLE_ACCESS_TOKEN"],
        "variables": {
            "GOOGLE_USER": "google_user.email",
            "GOOGLE_EMAIL": "google_user.email",
            "GOOGLE_NAME": "google_user.name",
        },
        "git_identity": {"name": "google_user.name", "email": "google_user.email"},
    },
    # oauthenticator.azuread.AzureAdOAuthenticator: the claims of the id_token under "user".
    "azuread": {
        "env": ["AZUREAD_ACCESS_TOKEN"],
        "variables": {
            "AZUREAD_USER": "user.unique_name",
            "AZUREAD_EMAIL": "user.email",
            "AZUREAD_NAME": "user.name",
        },
        "git_identity": {"name": "user.name", "email": "user.email"},
    },
    # oauthenticator.generic.GenericOAuthenticator, as in NBGallery's docs/jupyter_hub_oauth.md: the
    # answer of GET /oauth/userinfo.json under "oauth_user", and no refresh token.
    "nbgallery": {
        "url": None,
        "env": ["NBGALLERY_TOKEN"],
        "variables": {
            "NBGALLERY_USER": "oauth_user.user_name",
            "NBGALLERY_EMAIL": "oauth_user.email",
        },
        "settings": {"NBGALLERY_URL": "{url}"},
    },
    # oauthenticator.generic: the answer of GET /login/oauth/userinfo of Gitea and Forgejo, whose
    # "name" is empty where the user gave none. For git, any user name goes with the token.
    "gitea": {
        "url": None,
        "env": ["GITEA_TOKEN"],
        "variables": {
            "GITEA_USER": "oauth_user.preferred_username",
            "GITEA_EMAIL": "oauth_user.email",
            "GITEA_NAME": "oauth_user.name",
        },
        "settings": {"GITEA_URL": "{url}"},
        "git": "{url}",
        "git_identity": {
            "name": _claim("name", "preferred_username"),
            "email": "oauth_user.email",
        },
    },
    # oauthenticator.generic, .auth0 and .cilogon: the standard claims of OpenID Connect Core 1.0,
    # section 5.1, or what the provider has in their place.
    "oidc": {
        "env": ["OIDC_ACCESS_TOKEN"],
        "variables": {
            "OIDC_USER": _claim("preferred_username", "nickname", "eppn"),
            "OIDC_EMAIL": _claim("email"),
            "OIDC_NAME": _claim("name"),
        },
        "git_identity": {"name": _claim("name"), "email": _claim("email")},
    },
    # oauthenticator.globus.GlobusOAuthenticator: one token for each resource server under "tokens"
    # (its default scopes ask for the transfer API), the user info under "globus_user".
    "globus": {
        "key": "tokens.transfer.api.globus.org.access_token",
        "env": ["GLOBUS_ACCESS_TOKEN"],
        "variables": {
            "GLOBUS_USER": "globus_user.preferred_username",
            "GLOBUS_EMAIL": "globus_user.email",
            "GLOBUS_NAME": "globus_user.name",
        },
        "git_identity": {"name": "globus_user.name", "email": "globus_user.email"},
    },
    # oauthenticator.mediawiki.MWOAuthenticator: OAuth 1, so a pair (RFC 5849, section 1.1):
    # the secret is the token, its public identifier a companion.
    "mediawiki": {
        "key": "ACCESS_TOKEN_SECRET",
        "env": ["MEDIAWIKI_ACCESS_SECRET"],
        "variables": {
            "MEDIAWIKI_ACCESS_KEY": "ACCESS_TOKEN_KEY",
            "MEDIAWIKI_USER": "MEDIAWIKI_USER_IDENTITY.username",
            "MEDIAWIKI_EMAIL": "MEDIAWIKI_USER_IDENTITY.email",
        },
    },
}


def _role_session_name(auth_state: dict[str, Any]) -> str | None:
    """The user's name as AWS takes it: 2 to 64 letters, digits and ``_+=,.@-``.

    Without one, boto3 makes its own. OAuthenticator's classes keep the user info under
    ``oauth_user``, ``google_user``, ``user`` (Azure AD) and so on.
    """
    nodes = [node for key, node in auth_state.items() if key.endswith("user")]
    user_infos = [node for node in nodes if isinstance(node, dict)]
    names = "preferred_username username unique_name nickname login email sub"
    for claim in names.split():
        for user_info in user_infos:
            name = re.sub(r"[^\w+=,.@-]", "-", str(user_info.get(claim) or ""), flags=re.ASCII)[:64]
            if len(name) >= 2:
                return name
    return None


CONSUMERS: Mapping[str, Mapping[str, Any]] = {
    # AssumeRoleWithWebIdentity, as all of AWS' SDKs do it by themselves.
    "aws": {
        "key": "id_token",
        "file": True,
        "file_env": "AWS_WEB_IDENTITY_TOKEN_FILE",
        "variables": {"AWS_ROLE_SESSION_NAME": _role_session_name},
        "settings": {"AWS_ROLE_ARN": None},
    },
    # WorkloadIdentityCredential of Azure's SDKs, which DefaultAzureCredential tries early.
    "azure": {
        "key": "id_token",
        "file": True,
        "file_env": "AZURE_FEDERATED_TOKEN_FILE",
        "settings": {"AZURE_CLIENT_ID": None, "AZURE_TENANT_ID": None},
    },
    # Google's Application Default Credentials, by workload identity federation (AIP-4117).
    "gcp": {
        "key": "id_token",
        "file": True,
        "settings": {"GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE": None},
        "config_env": "GOOGLE_APPLICATION_CREDENTIALS",
        "config": {
            "type": "external_account",
            "audience": "{GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE}",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": "https://sts.googleapis.com/v1/token",
            "credential_source": {"file": "{file}", "format": {"type": "text"}},
            "service_account_impersonation_url": (
                "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/"
                "{GOOGLE_EXTERNAL_ACCOUNT_IMPERSONATED_EMAIL}:generateAccessToken"
            ),
        },
    },
    # OAuth token federation of databricks-sdk, named so that it looks at no other way to log in.
    "databricks": {
        "url": None,
        "key": "id_token",
        "file": True,
        "file_env": "DATABRICKS_OIDC_TOKEN_FILEPATH",
        "settings": {"DATABRICKS_HOST": "{url}", "DATABRICKS_AUTH_TYPE": "file-oidc"},
    },
    # huggingface_hub, and what is built on it.
    "huggingface": {"file": True, "file_env": "HF_TOKEN_PATH"},
    # snowflake-cli; snowflake-connector-python reads no variables, but takes the same by name.
    "snowflake": {
        "file": True,
        "file_env": "SNOWFLAKE_TOKEN_FILE_PATH",
        "settings": {"SNOWFLAKE_ACCOUNT": None, "SNOWFLAKE_AUTHENTICATOR": None},
    },
    # WLCG Bearer Token Discovery: XRootD, gfal2, scitokens, HTCondor.
    "wlcg": {"file": True, "file_env": "BEARER_TOKEN_FILE"},
    # A kubeconfig, for a cluster that takes the login's id_token (OpenID Connect).
    "kubernetes": {
        "key": "id_token",
        "file": True,
        "file_env": "KUBE_TOKEN_FILE",  # KUBERNETES_* is Kubernetes' own
        "settings": {"KUBE_API_SERVER": None},
        "config_env": "KUBECONFIG",
        "config": {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "hub",
                    "cluster": {
                        "server": "{KUBE_API_SERVER}",
                        "certificate-authority": "{KUBE_CA_FILE}",
                    },
                }
            ],
            "users": [{"name": "me", "user": {"tokenFile": "{file}"}}],
            "contexts": [{"name": "hub", "context": {"cluster": "hub", "user": "me"}}],
            "current-context": "hub",
        },
    },
}

PRESETS: Mapping[str, Mapping[str, Any]] = {**PROVIDERS, **CONSUMERS}
