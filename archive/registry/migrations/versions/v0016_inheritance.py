"""A copy that takes the place of a deleted frame inherits its corrections; texts that only look so are no numbers.

Corrections are about an exposure, whichever file holds it. Of several copies the one that can be used takes the place.
"""

from alembic import op

from ccdflow.archive.registry.migrations.versions.v0001_tables import NOW
from ccdflow.archive.registry.migrations.versions.v0015_identity import (
    DESCRIBED,
    FORGET,
    FRAME_NUMBERS,
    FRAME_TEXTS,
    HEIR,
    amend_keyword,
    drop,
    trigger,
)

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

FOLLOWS = "follows from obsdate"
NUMBER = {
    # What is no number stays text in a comparison with one, by SQLite's rules of affinity.
    "sqlite": "(NEW.value NOT GLOB '*[^-+.0-9eE]*' AND NEW.value NOT GLOB '*[eE]*[0-9][0-9][0-9]*' "
    "AND ltrim(NEW.value, '+-') GLOB '[0-9]*' AND ltrim(NEW.value, '+-') NOT GLOB '0[0-9]*' "
    "AND NEW.value = CAST(NEW.value AS NUMERIC))",
    "postgresql": "NEW.value ~ '^[+-]?(0|[1-9][0-9]*)([.][0-9]*)?([eE][+-]?[0-9]{1,2})?$'",
}
"""As Python's side reads further columns of catalogues: ``007`` and ``2026-03-01`` are names."""

USABLE_HEIR = (
    "(SELECT copy.id FROM frame copy WHERE copy.duplicate_of = OLD.id "
    "ORDER BY copy.reason <> '', copy.class = 'unclassified', copy.id LIMIT 1)"
)


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    drop("keyword_amended", "frame_keyword")
    work = [
        statement.replace("IS_NUMBER(NEW.value)", NUMBER[dialect])
        for statement in amend_keyword(NOW[dialect])
    ]
    trigger("keyword_amended", "UPDATE", "frame_keyword", ("value", "number"), work, "")
    drop("A_frame_deleted", "frame")
    forget = [
        *_APPLY,
        *(statement.replace(HEIR, USABLE_HEIR).replace("id > (", "id <> (") for statement in FORGET),
    ]
    if dialect == "sqlite":
        # Its foreign keys delete the corrections before a trigger AFTER is called. BEFORE, frames are left alone: of
        # one that the same statement deletes as well, what would happen is not defined.
        trigger("frame_bequeathed", "DELETE", "frame", (), _BEQUEATH, "", when="BEFORE")
    else:
        forget = [*_BEQUEATH, *forget]
    trigger("A_frame_deleted", "DELETE", "frame", (), forget, "")


def downgrade() -> None:
    dialect = op.get_bind().dialect.name
    if dialect == "sqlite":
        drop("frame_bequeathed", "frame")
    drop("A_frame_deleted", "frame")
    trigger("A_frame_deleted", "DELETE", "frame", (), FORGET, "")
    drop("keyword_amended", "frame_keyword")
    trigger(
        "keyword_amended", "UPDATE", "frame_keyword", ("value", "number"), amend_keyword(NOW[dialect]), ""
    )


# --- what the heir is given: written as SQLite has it -----------------------------------------------------------------

_COLUMNS = ", ".join(f"'{name}'" for name in DESCRIBED)
_KEYWORD = "FROM frame_keyword kept WHERE kept.frame_id = copy.id AND kept.name = amendment.name"
_SAID = " ".join(f"WHEN '{name}' THEN coalesce(CAST(copy.{name} AS TEXT), '')" for name in DESCRIBED)
_SAID_NUMBER = " ".join(
    [f"WHEN '{name}' THEN copy.{name}" for name in FRAME_NUMBERS]
    + [f"WHEN '{name}' THEN NULL" for name in FRAME_TEXTS]
)
_HELD = "amendment.undone = '' AND amendment.why <> '" + FOLLOWS + "'"
_BEQUEATH = [
    "INSERT INTO amendment (frame_id, name, value, number, said, said_number, who, why, made) "
    "SELECT copy.id, amendment.name, amendment.value, amendment.number, "
    f"CASE amendment.name {_SAID} ELSE (SELECT kept.value {_KEYWORD}) END, "
    f"CASE amendment.name {_SAID_NUMBER} ELSE (SELECT kept.number {_KEYWORD}) END, "
    "amendment.who, amendment.why, amendment.made FROM amendment, frame copy "
    f"WHERE copy.id = {USABLE_HEIR} AND amendment.frame_id = OLD.id AND {_HELD} AND NOT EXISTS ("
    "SELECT 1 FROM amendment own WHERE own.frame_id = copy.id AND own.name = amendment.name AND own.undone = '')",
]

_OWN = f"FROM amendment WHERE amendment.frame_id = {USABLE_HEIR} AND amendment.undone = ''"
_VALUES = ", ".join(
    [f"{name} = coalesce((SELECT value {_OWN} AND name = '{name}'), {name})" for name in FRAME_TEXTS]
    + [
        f"{name} = CASE WHEN EXISTS (SELECT 1 {_OWN} AND name = '{name}') "
        f"THEN (SELECT number {_OWN} AND name = '{name}') ELSE {name} END"
        for name in FRAME_NUMBERS
    ]
)
_APPLY = [
    f"DELETE FROM frame_keyword WHERE frame_id = {USABLE_HEIR} "
    f"AND name IN (SELECT name {_OWN} AND name NOT IN ({_COLUMNS}))",
    "INSERT INTO frame_keyword (frame_id, name, value, number) SELECT frame_id, name, value, number "
    f"{_OWN} AND name NOT IN ({_COLUMNS}) AND (value <> '' OR number IS NOT NULL)",
    # As we write it ourselves (`revision`), so that no correction comes of it; and the file is read anew, for what
    # follows from a corrected time or class.
    f"UPDATE frame SET {_VALUES}, revision = revision + 1, changed_ns = NULL "
    f"WHERE id = {USABLE_HEIR} AND EXISTS (SELECT 1 {_OWN})",
]
