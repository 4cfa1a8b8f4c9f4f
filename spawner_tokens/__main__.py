"""The console script ``spawner-tokens``: its subcommands and their arguments."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
import textwrap
import threading
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from .backends.kubernetes.rbac import make_role
from .singleuser.command import run_get, run_status

DEMO_MODULES = (
    *("configurable_http_proxy", "cryptography", "django", "ipykernel", "jupyterlab"),
    *("oauth2_provider", "oauthenticator", "psutil", "requests", "websocket"),
)

HUB_OPTIONS = "After -- come options of the Hub's own command line."


def run() -> NoReturn:
    """The console script. It ends with its status, whatever threads a configuration has started."""
    status = main()
    if all(
        thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()
    ):
        sys.exit(status)
    sys.stdout.flush()
    os._exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    own, hubs = split_arguments(sys.argv[1:] if argv is None else argv)
    parser = make_parser()
    options = parser.parse_args(own, argparse.Namespace(hubs=hubs))
    if hubs and options.run not in (run_doctor, run_explain):
        parser.error("-- is for doctor and explain")
    if sys.stdout is None:  # closed
        print("spawner-tokens: there is no standard output to write to", file=sys.stderr)
        return 1
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # signs that the locale's encoding lacks
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC):  # the first one: `| head` has ended
            raise
        if error.errno == errno.ENOSPC:
            print(f"spawner-tokens: {error.strerror}", file=sys.stderr)
        # The interpreter flushes the standard output once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Ours, and after ``--`` those of the Hub's own command line."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return list(arguments[:end]), list(arguments[end + 1 :])


def make_parser() -> argparse.ArgumentParser:
    description = "Live OAuth tokens for JupyterHub's servers."
    parser = argparse.ArgumentParser(prog="spawner-tokens", description=description)
    set_examples(parser, "demo", "doctor", "explain alice")
    commands = parser.add_subparsers(title="commands", required=True)
    for name, (add_arguments, words) in COMMANDS.items():
        add_arguments(commands.add_parser(name, help=words))
    return parser


def set_examples(parser: argparse.ArgumentParser, *examples: str, note: str = "") -> None:
    """What the help shows at its end. ``examples``: what follows the parser's own name."""
    lines = (f"  {parser.prog} {example}".rstrip() for example in examples)
    parser.epilog = "\n".join([*([note, ""] if note else []), "examples:", *lines])
    parser.description = textwrap.fill(parser.description or "", 79)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def add_demo(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Start a real OAuth provider, proxy and Hub on loopback, with all of their state in a "
        "temporary folder. Ctrl-C ends them and removes it."
    )
    words = "log in, look and compare without a person, then end"
    parser.add_argument("--check", action="store_true", help=words)
    words = "with --check: write its steps to FILE, too"
    parser.add_argument("--json", type=Path, metavar="FILE", help=words)
    words = "of an access token (default 60, with --check 10)"
    parser.add_argument("--token-lifetime", type=int, metavar="SECONDS", help=words)
    words = "the Hub's configuration instead of the demo's"
    parser.add_argument("--config", type=Path, metavar="FILE", help=words)
    set_examples(parser, "", "--token-lifetime 20", "--check --json steps.json")
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
        "Print a Role with the rights that TokenKubeSpawner needs beside those of KubeSpawner, and "
        "its binding to the Hub's service account."
    )
    words = "with the rights to renew Secrets in place, and at once"
    parser.add_argument("--patch", action="store_true", help=words)
    words = "the Hub's (default hub)"
    parser.add_argument("--service-account", default="hub", metavar="NAME", help=words)
    words = "for enable_user_namespaces: a ClusterRole, for the Hub in NAMESPACE"
    parser.add_argument("--user-namespaces", metavar="NAMESPACE", help=words)
    set_examples(parser, "| kubectl apply -n jhub -f -", "--patch | kubectl apply -n jhub -f -")
    parser.set_defaults(run=run_rbac)


def run_rbac(options: argparse.Namespace) -> int:
    namespace = options.user_namespaces
    role = make_role(options.service_account, patch=options.patch, hub_namespace=namespace)
    print(role, end="")
    return 0


def add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Load a configuration as JupyterHub does, without starting a Hub, and print what is wrong, "
        "why it matters, and how to correct it. Run it with the environment of the Hub. The exit "
        "status is 1 if there are errors."
    )
    source = parser.add_mutually_exclusive_group()
    add_config(source)
    words = "zero-to-jupyterhub's values.yaml instead: its plain settings; more than once, as helm"
    source.add_argument("--values", metavar="FILE", action="append", default=[], help=words)
    parser.add_argument("--json", action="store_true", help="for a machine")
    set_examples(
        parser,
        "-f /etc/jupyterhub/jupyterhub_config.py",
        "--values values.yaml --values secrets.yaml",
        "-- --JupyterHub.authenticator_class=github",
        note=HUB_OPTIONS,
    )
    parser.set_defaults(run=run_doctor)


def add_explain(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Print what a server of a user would get now, from the Hub's database and crypt key: a "
        "table like that of status in the server, then each token by length, fingerprint, age and "
        "scopes, and why one is missing. Nothing is written, and no token is shown."
    )
    add_config(parser)
    parser.add_argument("user", help="the user's name in JupyterHub")
    words = "a named server instead of the default one"
    parser.add_argument("--server", metavar="NAME", default="", help=words)
    parser.add_argument("--json", action="store_true", help="for a machine")
    set_examples(
        parser,
        "alice",
        "alice --server work --json",
        "alice -- --JupyterHub.db_url=sqlite:////srv/jupyterhub.sqlite",
        note=HUB_OPTIONS,
    )
    parser.set_defaults(run=run_explain)


def add_config(parser: argparse._ActionsContainer) -> None:
    file = "jupyterhub_config.py"
    words = f"the Hub's configuration (default: {file})"
    parser.add_argument("-f", "--config", metavar="FILE", default=file, help=words)


def run_doctor(options: argparse.Namespace) -> int:
    from .doctor.command import doctor

    return doctor(
        config=options.config, options=options.hubs, values=options.values, as_json=options.json
    )


def run_explain(options: argparse.Namespace) -> int:
    from .doctor.command import explain

    return explain(
        config=options.config,
        options=options.hubs,
        user=options.user,
        server=options.server,
        as_json=options.json,
    )


def add_get(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "In a server: print its live token of a name, for a tool that takes it from its input or a "
        "variable. The exit status is 1 if there is none."
    )
    parser.add_argument("name", help="the token's name")
    set_examples(parser, "github")
    parser.set_defaults(run=lambda options: run_get(options.name))


def add_status(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "In a server: print which tokens it has, when each ends, and where it is. No token is "
        "shown."
    )
    parser.add_argument("--json", action="store_true", help="for a machine")
    set_examples(parser, "", "--json")
    parser.set_defaults(run=lambda options: run_status(as_json=options.json))


COMMANDS = {
    "get": (add_get, "in a server: print a live token"),
    "status": (add_status, "in a server: print which tokens there are, and when they end"),
    "demo": (add_demo, "see it work here: a real provider, proxy and Hub on loopback"),
    "rbac": (add_rbac, "print the rights that a Hub needs in Kubernetes"),
    "doctor": (
        add_doctor,
        "print what is wrong with a Hub's configuration, and how to correct it",
    ),
    "explain": (
        add_explain,
        "print what a user's server would get now, and why not, without a value",
    ),
}


if __name__ == "__main__":
    run()
