"""Views for people who ask the registry by SQL: their names and columns stay, whatever becomes of the tables.

``v_frames``: a row for each raw file that is current, or row without a file; ``v_products``: one for each product with
the job that made it; ``v_lineage``: one for each input of a product. They are made anew with each upgrade, so that no
migration of a table stumbles over them. A column may be added; none is renamed or taken away.
"""

from collections.abc import Mapping

from sqlalchemy import Connection, text

VIEWS: Mapping[str, str] = {
    "v_frames": """
        SELECT f.id, f.path, f.class, f.telescope, f.camera, f.instrument, f.filter, f.object, f.exptime, f.obsdate,
               f.night, f.iobs, f.nobs, f.status, f.reason, f.sha256, f.size, f.version, f.registered_at
        FROM frame f WHERE f.status <> 'superseded'
    """,
    "v_products": """
        SELECT p.id, p.category, p.path, p.sha256, p.size, p.state, p.night, p.telescope, p.camera, p.instrument,
               p.filter, p.object, p.exptime, p.obsdate, p.superseded_by,
               CASE WHEN p.state = 'done' AND p.superseded_by IS NULL THEN 1 ELSE 0 END AS is_current,
               j.key AS job, j.step AS task, j.recipe, j.version AS recipe_version, j.software, j.level, j.worst_level,
               j.finished_at
        FROM product p JOIN job j ON j.key = p.job_key
    """,
    "v_lineage": """
        SELECT p.id AS product, i.role, i.position, i.frame_id AS frame, i.parent_job_key AS input_job,
               q.id AS input_product, q.category AS input_category, i.identity, i.level
        FROM product p JOIN job_input i ON i.job_key = p.job_key
        LEFT JOIN product q ON q.job_key = i.parent_job_key
    """,
}
"""Name to what it selects; `is_current` is 1 or 0."""


def drop_views(connection: Connection) -> None:
    """Take the views away, before tables change.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    """
    for name in VIEWS:
        connection.execute(text(f"DROP VIEW IF EXISTS {name}"))


def make_views(connection: Connection) -> None:
    """Make the views.

    Parameters
    ----------
    connection : Connection
        A transaction that writes; the tables are up to date.
    """
    for name, selected in VIEWS.items():
        connection.execute(text(f"CREATE VIEW {name} AS {selected}"))
