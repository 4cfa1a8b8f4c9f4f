"""The presets of clouds and tools: what each reads of a token."""

import json

import pytest
from pytest import param

from spawner_tokens.tokens.files import make_env, make_files
from spawner_tokens.tokens.presets import CONSUMERS, PROVIDERS
from spawner_tokens.tokens.selection import Login, check, select
from spawner_tokens.tokens.spec import parse_tokens

from .test_presets import CASES, generic

ARN = "arn:aws:iam::123456789012:role/notebooks"
POOL = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/hub/providers/hub"
AZURE = {"AZURE_CLIENT_ID": "c", "AZURE_TENANT_ID": "t"}
GCP = {
    "type": "external_account",
    "audience": POOL,
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "token_url": "https://sts.googleapis.com/v1/token",
    "credential_source": {"file": "/d/t", "format": {"type": "text"}},
}
ACCOUNT = "notebooks@project.iam.gserviceaccount.com"
IMPERSONATED = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken"
KUBERNETES = {"KUBE_API_SERVER": "https://k.example.org"}
KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "hub", "cluster": {"server": "https://k.example.org"}}],
    "users": [{"name": "me", "user": {"tokenFile": "/d/t"}}],
    "contexts": [{"name": "hub", "context": {"cluster": "hub", "user": "me"}}],
    "current-context": "hub",
}
SNOWFLAKE = {"SNOWFLAKE_ACCOUNT": "org-account", "SNOWFLAKE_AUTHENTICATOR": "oauth"}

CONSUMER_CASES = [
    param(
        {"preset": "aws", "settings": {"AWS_ROLE_ARN": ARN}},
        {"AWS_WEB_IDENTITY_TOKEN_FILE": "/d/t", "AWS_ROLE_ARN": ARN, "AWS_ROLE_SESSION_NAME": "kc"},
        None,
        id="aws",
    ),
    param(
        {"preset": "azure", "settings": AZURE},
        {"AZURE_FEDERATED_TOKEN_FILE": "/d/t", **AZURE},
        None,
        id="azure",
    ),
    param(
        {"preset": "gcp", "settings": {"GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE": POOL}},
        {
            "T_TOKEN_FILE": "/d/t",
            "GOOGLE_APPLICATION_CREDENTIALS": "/d/t.config.json",
            "GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE": POOL,
        },
        GCP,
        id="gcp",
    ),
    param(
        {
            "preset": "gcp",
            "settings": {
                "GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE": POOL,
                "GOOGLE_EXTERNAL_ACCOUNT_IMPERSONATED_EMAIL": ACCOUNT,
            },
        },
        {
            "T_TOKEN_FILE": "/d/t",
            "GOOGLE_APPLICATION_CREDENTIALS": "/d/t.config.json",
            "GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE": POOL,
            "GOOGLE_EXTERNAL_ACCOUNT_IMPERSONATED_EMAIL": ACCOUNT,
        },
        {**GCP, "service_account_impersonation_url": IMPERSONATED},
        id="gcp-as-a-service-account",
    ),
    param(
        {"preset": "databricks", "url": "https://dbc.example.org"},
        {
            "DATABRICKS_OIDC_TOKEN_FILEPATH": "/d/t",
            "DATABRICKS_HOST": "https://dbc.example.org",
            "DATABRICKS_AUTH_TYPE": "file-oidc",
        },
        None,
        id="databricks",
    ),
    param({"preset": "huggingface", "key": "id_token"}, {"HF_TOKEN_PATH": "/d/t"}, None, id="hf"),
    param(
        {"preset": "snowflake", "key": "id_token", "settings": SNOWFLAKE},
        {"SNOWFLAKE_TOKEN_FILE_PATH": "/d/t", **SNOWFLAKE},
        None,
        id="snowflake",
    ),
    param({"preset": "wlcg", "key": "id_token"}, {"BEARER_TOKEN_FILE": "/d/t"}, None, id="wlcg"),
    param(
        {"preset": "kubernetes", "settings": KUBERNETES},
        {"KUBE_TOKEN_FILE": "/d/t", "KUBECONFIG": "/d/t.config.json", **KUBERNETES},
        KUBECONFIG,
        id="kubernetes",
    ),
]


@pytest.mark.parametrize("fields, env, config", CONSUMER_CASES)
def test_a_consumer_gets_what_its_sdk_reads(fields, env, config):
    authenticator, response, user_info = generic()
    auth_state = authenticator.build_auth_state_dict(
        {**response, "id_token": "the-id-token"}, user_info
    )
    (spec,) = parse_tokens({"t": fields}, files=True)
    token = check(select(spec, Login(auth_state)), 0, 300)
    assert make_env([token], "/d") == {"SPAWNER_TOKENS_DIR": "/d", **env}
    files = make_files([token], "/d")
    assert files.pop("t") == b"the-id-token" and files.pop("t.json")
    assert {name: json.loads(contents) for name, contents in files.items()} == (
        {"t.config.json": config} if config else {}
    )


def test_every_preset_has_its_case():
    assert {fields["preset"] for _, fields, _ in CASES} == set(PROVIDERS)
    assert {case.values[0]["preset"] for case in CONSUMER_CASES} == set(CONSUMERS)


@pytest.mark.parametrize(
    "auth_state, name",
    [
        param({"oauth_user": {"preferred_username": "kc", "sub": "0"}}, "kc", id="generic"),
        param({"google_user": {"email": "goo@example.org"}}, "goo@example.org", id="google"),
        param({"user": {"unique_name": "az@example.org"}}, "az@example.org", id="azuread"),
        param({"oauth_user": {"preferred_username": "Käthe M."}}, "K-the-M."),
        param({"oauth_user": {"preferred_username": "x" * 65}}, "x" * 64, id="long"),
        param({"oauth_user": {"preferred_username": "x", "sub": 17}}, "17", id="too-short"),
        param({"oauth_user": None, "user": "text", "other": {"sub": "no"}}, None, id="none"),
    ],
)
def test_aws_gets_the_users_name_as_it_takes_it(auth_state, name):
    (spec,) = parse_tokens({"t": {"preset": "aws", "settings": {"AWS_ROLE_ARN": ARN}}}, files=True)
    companions = select(spec, Login({"id_token": "i", **auth_state})).companions
    assert companions.get("AWS_ROLE_SESSION_NAME") == name


def test_a_consumer_takes_another_token_too():
    fields = {"preset": "aws", "settings": {"AWS_ROLE_ARN": ARN}, "key": "exchanged.aws"}
    (spec,) = parse_tokens({"t": fields}, files=True)
    assert select(spec, Login({"id_token": "i", "exchanged": {"aws": "x"}})).value == "x"
