"""A database by the path of an SQLite file or by URL, in which writers take turns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from accord.errors import DataError

_WAIT_S = 60
_LOCK = 0x6163636F7264  # any number that no other program on the server locks with


def open_database(where: str) -> sa.Engine:
    """Return the engine of an SQLite file, whose folder is made, or of a server by URL; nothing is connected yet.

    Raises:
        DataError: the folder cannot be made, or there is no driver for the URL.
    """
    if "://" not in where:
        path = Path(where)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"the folder of {path} cannot be made: {error.strerror}") from error
        engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), connect_args={"timeout": _WAIT_S})
    else:
        scheme, rest = where.split("://", 1)
        known = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
        try:
            engine = sa.create_engine(f"{known.get(scheme, scheme)}://{rest}", pool_pre_ping=True)
        except sa.exc.ArgumentError as error:
            raise DataError(f"'{scheme}://…' is no database's URL: {error}; expected postgresql://…") from error
        except ImportError as error:
            raise DataError(
                f"{error}; for PostgreSQL run: pip install 'accord-align[postgres]'; other servers are not supported"
            ) from error
    if engine.dialect.name == "sqlite":
        # Python's driver begins a transaction late, so that two writers could both read first: begin it ourselves.
        sa.event.listen(engine, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def writing(engine: sa.Engine) -> Iterator[Connection]:
    """A transaction that no other writer shares: what is checked in it is still so when it ends."""
    with engine.execution_options(writes=True).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        yield connection


def plain(text: str) -> str:
    """Return text that a database can hold: without null characters and halves of surrogate pairs."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def without_password(where: str) -> str:
    """Return a path or URL as it may be shown."""
    return sa.make_url(where).render_as_string(hide_password=True) if "://" in where else where
