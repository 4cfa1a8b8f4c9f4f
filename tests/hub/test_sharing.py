"""Which servers are shared: every way in which a Hub begins and ends to share one."""

import sqlite3
import time
from contextlib import closing
from datetime import datetime, timedelta, timezone

import pytest
from jupyterhub import orm
from pytest import param
from sqlalchemy import create_engine, event, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from spawner_tokens import sharing
from spawner_tokens.sharing import _SHARING, Sharing, is_shared

from ..support.waiting import until

SCOPES = ["access:servers"]


@pytest.fixture
def session(tmp_path):
    """A Hub's, with two users, a group, and two servers of the first user's."""
    engine = create_engine(f"sqlite:///{tmp_path}/hub.sqlite")
    orm.Base.metadata.create_all(engine)
    try:
        with Session(engine, expire_on_commit=False) as session:
            alice, bob, group = orm.User(name="alice"), orm.User(name="bob"), orm.Group(name="g")
            session.add_all([alice, bob, group])
            session.add_all(orm.Spawner(name=name, user=alice) for name in ("", "other"))
            session.commit()
            yield session
    finally:
        engine.dispose()


def find(session):
    return (
        session.query(orm.Spawner).filter_by(name="").one(),
        session.query(orm.User).filter_by(name="bob").one(),
        session.query(orm.Group).one(),
    )


def grant(session):
    server, bob, _ = find(session)
    return orm.Share.grant(session, server, bob, SCOPES)


def grant_to_group(session):
    server, _, group = find(session)
    return orm.Share.grant(session, server, group, SCOPES)


def add_code(session):
    return orm.ShareCode.new(session, find(session)[0], scopes=SCOPES, expires_in=3600)[0]


def revoke(session):
    orm.Share.revoke(session, *find(session)[:2])


def delete_all(kind):
    """As ``DELETE /api/shares/alice/`` does, without an event of the ORM's."""

    def delete(session):
        session.query(kind).filter_by(spawner_id=find(session)[0].id).delete()
        session.commit()

    return delete


def delete_one(kind):
    def delete(session):
        session.delete(session.query(kind).order_by(kind.id.desc()).first())
        session.commit()

    return delete


def exchange_and_revoke(session):
    session.query(orm.ShareCode).one().exchange(find(session)[1])
    delete_all(orm.ShareCode)(session)
    assert is_shared(session, find(session)[0])
    revoke(session)


def let_end(row, session, seconds):
    row.expires_at = datetime.now(timezone.utc).replace(tzinfo=None) + timedelta(seconds=seconds)
    session.commit()


def let_expire(session):
    let_end(session.query(orm.ShareCode).one(), session, 1)  # that is after the next look


def purge(session):
    """An expired share lets others in until JupyterHub removes it, once in an hour."""
    let_end(session.query(orm.Share).one(), session, -5)
    assert is_shared(session, find(session)[0])
    orm.Share.purge_expired(session)


@pytest.mark.parametrize(
    "begin, end",
    [
        param(grant, revoke, id="user-revoked"),
        param(grant, delete_one(orm.Share), id="user-left-it"),
        param(grant, delete_all(orm.Share), id="all-revoked"),
        param(grant, delete_one(orm.User), id="user-deleted"),
        param(grant, purge, id="purged"),
        param(grant_to_group, delete_all(orm.Share), id="group-revoked"),
        param(grant_to_group, delete_one(orm.Group), id="group-deleted"),
        param(add_code, delete_one(orm.ShareCode), id="code-revoked"),
        param(add_code, delete_all(orm.ShareCode), id="all-codes-revoked"),
        param(add_code, exchange_and_revoke, id="code-exchanged"),
        param(add_code, let_expire, id="code-expired"),
    ],
)
async def test_a_servers_sharing_is_seen_when_it_begins_and_when_it_ends(session, begin, end):
    server, other = find(session)[0], session.query(orm.Spawner).filter_by(name="other").one()
    assert not is_shared(session, server)
    seen, watching = [], Sharing.from_session(session)
    watching.watch(server.id, False, lambda _: seen.append(is_shared(session, server)))
    watching.watch(other.id, False, lambda _: seen.append("another server"))
    begin(session)
    assert is_shared(session, server) and not is_shared(session, other)
    await until(lambda: seen == [True])
    end(session)
    await until(lambda: seen == [True, False])
    assert not is_shared(session, server)


async def test_what_has_changed_before_a_server_is_watched_is_seen_too(session):
    server, seen = find(session)[0], []
    Sharing.from_session(session).watch(server.id, True, lambda _: seen.append("ended"))
    await until(lambda: seen == ["ended"])
    grant(session)
    Sharing.from_session(session).watch(server.id, False, lambda _: seen.append("begun"))
    await until(lambda: seen == ["ended", "begun"])


def test_a_code_is_good_until_its_end_by_the_hubs_clock(session):
    server, now = find(session)[0], time.time()
    session.info[_SHARING] = Sharing(session, lambda: now)
    code = add_code(session)
    now += 3599
    assert is_shared(session, server)
    now += 2
    assert not is_shared(session, server)
    code.expires_at = None
    session.commit()
    assert is_shared(session, server)


def test_what_is_rolled_back_counts_for_nothing(session):
    server = find(session)[0]
    assert not is_shared(session, server)
    session.add(orm.Share(spawner=server, owner=server.user, user=find(session)[1], scopes=SCOPES))
    session.flush()
    assert is_shared(session, server)
    session.rollback()
    assert not is_shared(session, server)
    session.delete(grant(session))
    session.flush()
    assert not is_shared(session, server)
    session.rollback()
    assert is_shared(session, server)


def test_while_the_database_does_not_say_it_there_is_no_answer(session):
    server, share = find(session)[0], grant(session)
    session.execute(text("ALTER TABLE share_codes RENAME TO elsewhere"))
    with pytest.raises(SQLAlchemyError):
        is_shared(session, server)
    session.execute(text("ALTER TABLE elsewhere RENAME TO share_codes"))
    assert is_shared(session, server) and share.spawner is server


def test_what_no_change_was_seen_of_is_known_while_the_database_is_locked(session, monkeypatch):
    server, other = session.scalars(select(orm.Spawner).order_by(orm.Spawner.id))
    grant(session)
    assert is_shared(session, server) and not is_shared(session, other)
    session.commit()
    monkeypatch.setattr(sharing, "_LONGEST", -1.0)
    with closing(sqlite3.connect(session.get_bind().url.database, isolation_level=None)) as process:
        process.execute("BEGIN EXCLUSIVE")
        began_at = time.monotonic()
        assert is_shared(session, server) and not is_shared(session, other)
        Sharing.from_session(session).note_change()
        with pytest.raises(SQLAlchemyError):
            is_shared(session, other)
        assert time.monotonic() - began_at < 4  # SQLite's own patience is five seconds
        process.execute("ROLLBACK")
    assert is_shared(session, server) and not is_shared(session, other)


def test_a_look_costs_no_query_while_nothing_changes(session):
    server, queries = find(session)[0], []
    event.listen(session.get_bind(), "before_cursor_execute", lambda *_: queries.append(1))
    grant(session)
    assert all(is_shared(session, server) for _ in range(1000))
    before = len(queries)
    assert all(is_shared(session, server) for _ in range(1000)) and len(queries) == before
