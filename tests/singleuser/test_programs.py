"""What a server's own programs use."""

import asyncio
import json
import os
import subprocess
import sys
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path

import pytest

from spawner_tokens.__main__ import main
from spawner_tokens.singleuser import NoToken, TokenAuth, get_status, get_token

from ..support.pulling import PULL
from ..support.spawners import VariablesOnly
from .test_keeper import NAMES, TOKENS

ROOT = Path(__file__).parents[2]


def test_importing_it_imports_the_standard_library_alone():
    modules = [path.stem for path in (ROOT / "spawner_tokens" / "singleuser").glob("[a-z]*.py")]
    code = "import sys; before = set(sys.modules); import spawner_tokens.singleuser\n" + "".join(
        f"import spawner_tokens.singleuser.{module}\n" for module in modules
    )
    code += (
        "names = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(names - {*sys.stdlib_module_names, 'spawner_tokens'}))"
    )
    options = {"capture_output": True, "text": True, "cwd": ROOT, "check": True}
    assert len(modules) >= 7
    assert subprocess.run([sys.executable, "-c", code], **options).stdout.split() == []


def test_installing_the_package_enables_its_extension():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    path = setup["options.data_files"]["etc/jupyter/jupyter_server_config.d"]
    [module] = json.loads((ROOT / path).read_text())["ServerApp"]["jpserver_extensions"]
    [point] = import_module(module)._jupyter_server_extension_points()
    assert import_module(point["module"])._load_jupyter_server_extension


def test_a_token_is_that_of_its_file_else_that_of_its_variable(tokens, environ):
    assert get_token("t") == "token-1"
    (tokens / "t").write_text("token-2")
    assert get_token("t") == "token-2"
    (tokens / "t").unlink()
    assert get_token("t") == "token-0"
    environ["SPAWNER_TOKENS_URL"], environ["JUPYTERHUB_API_TOKEN"] = "http://127.0.0.1:1/x", "x"
    assert get_token("t") == "token-0"
    del environ["T"]
    with pytest.raises(NoToken, match="the Hub cannot be reached"):
        get_token("t")
    for url in ("http://127.0.0.1:1/x", "http://[", "http://x:y", "x"):
        environ["SPAWNER_TOKENS_URL"] = url
        with pytest.raises(NoToken, match="the Hub cannot be reached"):
            get_token(name="\udcff")  # as a program's argument may be
    del environ["SPAWNER_TOKENS_URL"]
    for name in ("u", "", "../tokens/t.json", ".lock", "x" * 300):
        with pytest.raises(NoToken, match="Tokens of this server: t"):
            get_token(name)


def test_files_of_another_user_are_as_none(tokens):
    tokens.chmod(0)
    if user := (os.geteuid() == 0 and 65534):
        os.seteuid(user)
    try:
        assert get_token("t") == "token-0"
        assert [each["where"] for each in get_status()] == ["variable"]
    finally:
        os.seteuid(os.getuid())
        tokens.chmod(0o700)


def test_requests_have_the_token_of_their_moment(tokens):
    requests, httpx = pytest.importorskip("requests"), pytest.importorskip("httpx")
    sent = []

    def answer(request):
        sent.append(request.headers["Authorization"])
        return httpx.Response(200)

    with httpx.Client(auth=TokenAuth("t"), transport=httpx.MockTransport(answer)) as client:
        client.get("http://example.org")
        (tokens / "t").write_text("token-2")
        client.get("http://example.org")
    assert sent == ["Bearer token-1", "Bearer token-2"]
    auth = TokenAuth("t", header="PRIVATE-TOKEN", scheme="")
    prepared = requests.Request("GET", "http://example.org", auth=auth).prepare()
    assert prepared.headers["PRIVATE-TOKEN"] == "token-2" and "token-2" not in repr(vars(auth))


def test_a_running_kernel_has_the_live_token_before_each_cell(tokens, environ):
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell()
    shell.extension_manager.load_extension("spawner_tokens")
    shell.run_cell("import os; first = os.environ['T']")
    (tokens / "t").write_text("token-2")
    shell.run_cell("second = os.environ['ALSO_T']")
    assert (shell.user_ns["first"], shell.user_ns["second"]) == ("token-1", "token-2")
    shell.extension_manager.unload_extension("spawner_tokens")
    (tokens / "t").write_text("token-3")
    shell.run_cell("third = os.environ['T']")
    assert shell.user_ns["third"] == "token-2"
    shell.extension_manager.load_extension("spawner_tokens")
    (tokens / "t").unlink()
    (tokens / "t.json").write_text('{"status": "shared"}')
    shell.run_cell("left = 'T' in os.environ")
    assert shell.user_ns["left"] is False
    with pytest.raises(NoToken, match="is withheld. Its status: shared."):
        get_token("t")


def test_the_commands_print_the_token_and_what_is_known_of_all(tokens, capsys):
    assert main(["get", "t"]) == 0
    assert capsys.readouterr().out == "token-1\n"
    assert main(["get", "u"]) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and "there is no token 'u' here" in shown.err
    assert main(["status"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["TOKEN", "ENDS", "IN", "RENEWED", "STATUS", "WHERE"]
    assert row.startswith("t ") and row.endswith(str(tokens / "t")) and "ok" in row
    assert main(["status", "--json"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert found["where"] == str(tokens / "t") and found["status"] == "ok"
    assert "token-1" not in json.dumps(found)


async def test_without_files_programs_ask_the_hub(start_hub, environ, capsys):
    hub = await start_hub(VariablesOnly, {**TOKENS, **PULL})
    user = await hub.user("alice", {"access_token": "alice-a4"})  # nobody knows its end
    texts = await (await hub.spawn(user)).texts()
    environ.update({name: texts[name] for name in NAMES})
    environ["http_proxy"] = environ["HTTP_PROXY"] = "http://127.0.0.1:1"
    assert await asyncio.to_thread(main, ["get", "t"]) == 0
    assert capsys.readouterr().out == "alice-a4\n"
    assert await asyncio.to_thread(main, ["status", "--json"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert (found["name"], found["status"], found["where"]) == ("t", "ok", "hub")
