"""``spawner-tokens explain`` and a real PostgreSQL, beside a Hub that writes into it."""

import os
import secrets
import shutil
import subprocess
from glob import glob
from pathlib import Path

import pytest
from jupyterhub import orm
from sqlalchemy import create_engine, insert, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from spawner_tokens.doctor.database import read_database

from ..support.examining import run_command
from .test_explain_database import CONFIG


@pytest.fixture
def url(need):
    """An empty database, in a server of the test's own that listens on no port."""
    pg_ctl = shutil.which(
        "pg_ctl", path=os.pathsep.join([os.environ["PATH"], *glob("/usr/lib/postgresql/*/bin")])
    )
    need(pg_ctl, "PostgreSQL")
    folder = Path(
        "/tmp", f"spawner-tokens-test-{secrets.token_hex(4)}"
    )  # a socket's path has to be short
    folder.mkdir()
    as_user = []
    if os.geteuid() == 0:  # as which PostgreSQL does not run
        shutil.chown(folder, "nobody")
        as_user = ["setpriv", "--reuid=nobody", "--clear-groups"]
    command = [*as_user, pg_ctl, "--pgdata", folder / "data", "--silent"]
    subprocess.run(
        [*command, "initdb", "-o", "--username=hub --auth=trust"], check=True, capture_output=True
    )
    options = f"-k {folder} -c listen_addresses=''"
    subprocess.run(
        [*command, "--log", folder / "log", "--wait", "-o", options, "start"], check=True
    )
    yield f"postgresql+psycopg2://hub@/postgres?host={folder}"
    subprocess.run([*command, "--wait", "--mode=immediate", "stop"], check=True)
    shutil.rmtree(folder)


def test_a_database_is_read_beside_a_hub_that_writes_and_nothing_waits(url, tmp_path):
    engine = create_engine(url)
    orm.Base.metadata.create_all(engine)
    with Session(engine) as hub:
        hub.add(orm.User(name="alice"))
        hub.commit()
        hub.execute(text("SET lock_timeout = '1s'"))
        with read_database(url, {}) as session:
            assert session.query(orm.User).count() == 1
            held = text(
                "SELECT DISTINCT mode FROM pg_locks WHERE pid = :pid AND locktype = 'relation'"
            )
            pid = session.execute(text("SELECT pg_backend_pid()")).scalar()
            assert hub.execute(held, {"pid": pid}).scalars().all() == [
                "AccessShareLock"
            ]  # as of any SELECT
            hub.query(orm.User).filter_by(name="alice").one().admin = True
            hub.add(orm.User(name="bob"))
            hub.commit()
            session.rollback()
            with pytest.raises(DBAPIError, match="read-only transaction"):
                session.execute(insert(orm.User).values(name="carol"))
            session.rollback()
        hub.add(orm.User(name="dave"))
        hub.flush()
        assert explain(url, tmp_path, "bob").startswith("What a server of bob would get now")
        assert "no user 'dave'" in explain(url, tmp_path, "dave")
        hub.commit()
        assert {user.name for user in hub.query(orm.User)} == {"alice", "bob", "dave"}
    engine.dispose()


def explain(url, tmp_path, user):
    config = tmp_path / "hub_config.py"
    config.write_text(CONFIG.format(url=url))
    done = run_command("explain", "-f", config, user)
    return done.stdout + done.stderr
