"""The console script ``spawner-tokens``: its subcommands and their arguments."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from .rbac import make_role

DEMO_MODULES = (
    *("configurable_http_proxy", "cryptography", "django", "ipykernel", "jupyterlab"),
    *("oauth2_provider", "oauthenticator", "psutil", "requests", "websocket"),
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="spawner-tokens", description="Live OAuth tokens for JupyterHub's servers.")
    commands = parser.add_subparsers(title="commands", required=True)
    add_demo(commands.add_parser("demo", help="see it work here: a real provider, proxy and Hub on loopback"))
    add_rbac(commands.add_parser("rbac", help="print the rights that a Hub needs in Kubernetes"))
    options = parser.parse_args(argv)
    status: int = options.run(options)
    return status


def add_demo(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Start a real OAuth provider, proxy and Hub on loopback, with all of their state in a temporary folder. "
        "Ctrl-C ends them and removes it."
    )
    parser.add_argument("--check", action="store_true", help="log in, look and compare without a person, then end")
    parser.add_argument("--json", type=Path, metavar="FILE", help="with --check: write its steps to FILE, too")
    parser.add_argument(
        "--token-lifetime", type=int, metavar="SECONDS", help="of an access token (default 60, with --check 10)"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the Hub's configuration instead of the demo's")
    parser.set_defaults(run=partial(run_demo, parser))


def run_demo(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if options.json and not options.check:
        parser.error("--json goes with --check")
    if not all(map(find_spec, DEMO_MODULES)):
        print("The demo needs more packages: pip install 'spawner_tokens[demo]'", file=sys.stderr)
        return 1
    from .demo.command import demo, demo_check

    token_lifetime = options.token_lifetime or (10 if options.check else 60)
    if options.check:
        return demo_check(token_lifetime=token_lifetime, config=options.config, report=options.json)
    return demo(token_lifetime=token_lifetime, config=options.config)


def add_rbac(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Print a Role with the rights that TokenKubeSpawner needs beside those of KubeSpawner, and its binding to the "
        "Hub's service account: spawner-tokens rbac | kubectl apply -n NAMESPACE -f -"
    )
    parser.add_argument("--patch", action="store_true", help="with the rights to renew Secrets in place, and at once")
    parser.add_argument("--service-account", default="hub", metavar="NAME", help="the Hub's (default hub)")
    more = "for enable_user_namespaces: a ClusterRole, for the Hub in NAMESPACE"
    parser.add_argument("--user-namespaces", metavar="NAMESPACE", help=more)
    parser.set_defaults(run=run_rbac)


def run_rbac(options: argparse.Namespace) -> int:
    print(make_role(options.service_account, patch=options.patch, hub_namespace=options.user_namespaces), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
