"""What Spawners by others need of a system: its users, and commands that each of them can run.

``need``: see the fixture in ``tests/conftest.py``.
"""

import os
import pwd
import secrets
import shutil
import subprocess
import sys
import sysconfig
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from .pages import ROOT

_SUPPORT = Path(__file__).parent


@contextmanager
def make_users(need):
    """Two ordinary users of the system, and a command for their servers that they can run."""
    need(os.geteuid() == 0, "root")
    need(shutil.which("useradd"), "useradd")
    python = need(
        shutil.which("python3", path="/usr/bin:/usr/local/bin"), "a python3 that every user can run"
    )
    names = [f"tokens-{secrets.token_hex(4)}" for _ in range(2)]
    homes = [Path("/var/tmp", name) for name in names]
    for name, home in zip(names, homes, strict=True):
        subprocess.run(
            ["useradd", "--create-home", "--skel", "/nonexistent", "--home-dir", home, name],
            check=True,
        )
    script = Path("/var/tmp", f"{names[0]}.py")
    shutil.copy(_SUPPORT / "server.py", script)
    script.chmod(0o644)
    try:
        yield *names, [python, str(script)]
    finally:
        script.unlink()
        for name, home in zip(names, homes, strict=True):
            subprocess.run(["userdel", "--force", name], check=True)
            shutil.rmtree(home)


@contextmanager
def install_commands():
    """A folder, first in ``PATH``, that every user can use: the commands of a batch system."""
    folder = Path("/var/tmp", f"tokens-commands-{os.getpid()}")
    shutil.copytree(_SUPPORT / "commands", folder)
    folder.chmod(0o755)
    try:
        with patch.dict(os.environ, PATH=f"{folder}:{os.environ['PATH']}"):
            yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def mount_python(need):
    """This Python and its packages, at paths where every user of the system can get to them."""
    folder = Path("/var/tmp", f"tokens-python-{os.getpid()}")
    mounts = {folder / "base": sys.base_prefix, folder / "packages": sysconfig.get_path("purelib")}
    for place, source in mounts.items():
        place.mkdir(parents=True)
        need(
            subprocess.run(["mount", "--bind", source, place]).returncode == 0, "the right to mount"
        )
    python = folder / "base" / "bin" / "python{}.{}".format(*sys.version_info)
    try:
        yield f"/usr/bin/env -S LD_LIBRARY_PATH={folder}/base/lib {python}", folder / "packages"
    finally:
        for place in mounts:
            subprocess.run(["umount", "--lazy", place], check=True)
            place.rmdir()
        folder.rmdir()


def write_command(commands, name, python, command, module):
    """Write a program of an installed package, as pip would. The user ``name`` can run it."""
    python, packages = python
    program = f"#!{python}\nimport sys\nsys.path.append({str(packages)!r})\n"
    program += f"from {module} import main\n"
    (commands / command).write_text(program)
    (commands / command).chmod(0o755)
    user = pwd.getpwnam(name)
    subprocess.run(
        [commands / command],
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        cwd="/",
        check=True,
    )
    (commands / command).write_text(f"{program}main()\n")
    return str(commands / command)


def make_batch_settings(commands, singleuser):
    """Settings for jobs of this batch system, and its spool. ``singleuser``: batchspawner's."""
    spool = commands / "spool"
    spool.mkdir()
    spool.chmod(0o1777)
    traits = {
        # as sudo -E -u, without sudo
        "exec_prefix": "setpriv --reuid={username} --regid={username} --init-groups",
        "batch_script": "#!/bin/sh\n#BATCH --export={keepvars}\nexec {cmd}\n",
        "batch_submit_cmd": f"env BATCH_SPOOL={spool} {commands}/batch submit",
        "batch_query_cmd": f"env BATCH_SPOOL={spool} {commands}/batch query {{job_id}}",
        "batch_cancel_cmd": f"env BATCH_SPOOL={spool} {commands}/batch cancel {{job_id}}",
        "state_pending_re": "^PENDING",
        "state_running_re": "^RUNNING",
        "state_exechost_re": r"^RUNNING (\S+)",
        "batchspawner_singleuser_cmd": singleuser,
        "startup_poll_interval": 0.1,
    }
    return {f"BatchSpawnerBase.{name}": value for name, value in traits.items()}, spool


def write_server(folder, script):
    """Write a server as of an image with the package: ``script`` with the package's part in it."""
    shutil.copytree(ROOT / "spawner_tokens", folder / "packages" / "spawner_tokens")
    command = folder / "keeping"
    command.write_text(
        f"import logging, runpy, sys\nsys.path.insert(0, {str(folder / 'packages')!r})\n"
        "from spawner_tokens.singleuser.keeper import keep\nkeep(logging.getLogger())\n"
        f"runpy.run_path({script!r}, run_name='__main__')\n"
    )
    command.chmod(0o755)
    return str(command)
