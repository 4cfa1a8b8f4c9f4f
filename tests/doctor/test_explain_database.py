"""``spawner-tokens explain`` reads the Hub's database beside the Hub, and changes nothing."""

import sqlite3
import subprocess

import pytest
from jupyterhub import orm
from sqlalchemy import create_engine, insert

from spawner_tokens.__main__ import main
from spawner_tokens.doctor.database import DatabaseError, read_database

from ..support.examining import run_command

CONFIG = """
c.JupyterHub.db_url = "{url}"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.enable_auth_state = True
c.JupyterHub.spawner_class = "tokens-simple"
c.TokenSpawnerMixin.tokens = {{"login": {{}}}}
"""
ADD_USER = "INSERT INTO users (name, cookie_id) VALUES (?, ?)"


@pytest.fixture
def connection(tmp_path):
    """Of a Hub's database, by a process that has it open as a Hub has."""
    engine = create_engine(f"sqlite:///{tmp_path}/hub.sqlite")
    orm.Base.metadata.create_all(engine)
    engine.dispose()
    connection = sqlite3.connect(tmp_path / "hub.sqlite", isolation_level=None)
    yield connection
    connection.close()


def write_config(folder):
    config = folder / "hub_config.py"
    config.write_text(CONFIG.format(url=f"sqlite:///{folder}/hub.sqlite"))
    return config


def explain(folder, user):
    """Status and output of the command. SQLite's locks are between processes: it has its own."""
    config, before = write_config(folder), read_files(folder)
    done = run_command("explain", "-f", config, user)
    assert read_files(folder) == before
    return done.returncode, done.stdout + done.stderr


def read_files(folder):
    """In a process of its own, too: who closes a file gives up all of its process's locks of it."""
    return subprocess.run(
        ["sha256sum", *sorted(folder.glob("hub.sqlite*"))], capture_output=True, check=True
    ).stdout


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_database_is_read_beside_a_hub_that_has_it_open(connection, tmp_path, mode):
    connection.execute(f"PRAGMA journal_mode={mode}")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(ADD_USER, ("bob", "b"))
    status, text = explain(tmp_path, "bob")
    assert status == 1 and "no user 'bob'" in text
    connection.execute("COMMIT")
    assert explain(tmp_path, "bob")[0] == 0


def test_a_name_is_found_as_it_is_and_as_a_login_makes_it(connection, tmp_path, capsys):
    connection.execute(ADD_USER, ("alice", "a"))
    connection.execute(ADD_USER, ("Bob", "b"))
    config = write_config(tmp_path)
    for name, words in (
        ("ALICE", "What a server of alice would get now"),
        ("Bob", "What a server of Bob would get now"),
        ("CAROL", "no user 'CAROL'"),
    ):
        main(["explain", "-f", str(config), name])
        assert words in "".join(capsys.readouterr())


def test_a_locked_database_is_said_with_what_to_do(connection, tmp_path):
    connection.execute("BEGIN EXCLUSIVE")
    status, text = explain(tmp_path, "alice")
    assert status == 1 and "database is locked" in text and "try again" in text


def test_a_database_with_a_write_ahead_log_gets_no_files_beside_it(tmp_path):
    path = tmp_path / "hub.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        orm.Base.metadata.create_all(engine := create_engine(f"sqlite:///{path}"))
    connection.close()
    engine.dispose()
    before = path.read_bytes()
    with read_database(f"sqlite:///{path}", {}) as session:
        assert session.query(orm.User).count() == 0
        session.add(orm.User(name="alice"))
        session.commit()  # in vain
        assert session.query(orm.User).count() == 0
        with pytest.raises(Exception, match="readonly"):
            session.execute(insert(orm.User).values(name="alice"))
    assert [each.name for each in tmp_path.iterdir()] == [
        "hub.sqlite"
    ] and path.read_bytes() == before


@pytest.mark.parametrize(
    "url",
    [
        "nothing://u:the-password@h/d",
        "postgresql://u:the-password@127.0.0.1:1/d",
        "mysql://u:p@h:the-password/d",
    ],
)
def test_a_database_that_cannot_be_opened_is_named_without_its_password(url):
    with pytest.raises(DatabaseError) as raised:
        with read_database(url, {}) as session:
            session.query(orm.User).count()
    assert "the-password" not in str(raised.value)
