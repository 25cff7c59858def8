"""The five steps as a DBOS workflow, called in the process that asks.

As called from synchronous code, the quicker way: asynchronous workflows go through threads.
"""

import sqlite3

from dbos import DBOS

from bench.peers_runners.protocol import STEPS, options, serve_synchronously

SQLITE = "sqlite:///"


@DBOS.step()
def add_one(number: int) -> int:
    return number + 1


@DBOS.workflow()
def five(number: int) -> int:
    for _ in range(STEPS):
        number = add_one(number)
    return number


def main() -> None:
    given = options("database")
    if given.database.startswith(SQLITE):
        # the journal's mode stays with the file: fewer syncs for a commit, which is as durable
        with sqlite3.connect(given.database.removeprefix(SQLITE)) as database:
            database.execute("PRAGMA journal_mode=wal")
        database.close()
    DBOS(
        config={
            "name": "five",
            "system_database_url": given.database,
            "run_admin_server": False,
            "log_level": "WARNING",
        }
    )
    DBOS.launch()
    serve_synchronously(given.port, five)


main()
