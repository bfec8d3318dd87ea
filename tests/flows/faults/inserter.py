"""A telescope's program: inserts rows by plain SQL, one by one, and tries again where the database does not answer.

Arguments: URL, seconds between two rows, paths. No line of ccdflow takes part.
"""

import sqlite3
import sys
import time

import psycopg


def insert(url: str, path: str) -> None:
    if url.startswith("sqlite:///"):
        with sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30) as connection:
            connection.execute("INSERT INTO frame (path) VALUES (?)", (path,))
        connection.close()
    else:
        with psycopg.connect(url, autocommit=True) as server:
            server.execute("INSERT INTO frame (path) VALUES (%s)", (path,))


if __name__ == "__main__":
    url, pause, *paths = sys.argv[1:]
    for path in paths:
        end = time.monotonic() + 120
        while True:
            try:
                insert(url, path)
                break
            except (sqlite3.OperationalError, psycopg.OperationalError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)
        time.sleep(float(pause))
