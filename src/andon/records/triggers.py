"""What makes the database itself refuse to change what is recorded: rows are added, and an entry only at the trail's end.

Whoever owns the database can remove triggers; :mod:`andon.records.verifying` notices that they are gone.
"""

from __future__ import annotations

ONLY_ADDED = (
    "andon_trail", "andon_inspections", "andon_decisions", "andon_changes", "andon_sessions", "andon_users",
)  # fmt: skip
_ASTRAY = """NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM andon_trail)
  OR NEW.previous <> coalesce((SELECT hash FROM andon_trail ORDER BY seq DESC LIMIT 1), NEW.previous)"""
_NOT_LAST = "an entry of andon_trail must follow the last one"


def functions(dialect: str) -> list[str]:
    """What PostgreSQL's triggers call; SQLite's hold their own statements."""
    if dialect == "sqlite":
        return []
    head = "RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    return [
        f"CREATE FUNCTION andon_refuse() {head} "
        "RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is only ever added to'; END $$",
        f"CREATE FUNCTION andon_at_its_end() {head} IF {_ASTRAY} THEN RAISE EXCEPTION '{_NOT_LAST}'; END IF; "
        "RETURN NEW; END $$",
    ]


def triggers(dialect: str) -> dict[str, str]:
    """Name and statement of each trigger."""
    return _sqlite() if dialect == "sqlite" else _postgresql()


def _sqlite() -> dict[str, str]:
    made = {
        f"{table}_no_{verb}": f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is only ever added to'); END"
        for table in ONLY_ADDED
        for verb in ("update", "delete")
    }
    at_its_end = (
        f"CREATE TRIGGER andon_trail_at_its_end BEFORE INSERT ON andon_trail WHEN {_ASTRAY} "
        f"BEGIN SELECT RAISE(ABORT, '{_NOT_LAST}'); END"
    )
    return {**made, "andon_trail_at_its_end": at_its_end}


def _postgresql() -> dict[str, str]:
    made = {
        f"{table}_only_added": f"CREATE TRIGGER {table}_only_added BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION andon_refuse()"
        for table in ONLY_ADDED
    }
    at_its_end = (
        "CREATE TRIGGER andon_trail_at_its_end BEFORE INSERT ON andon_trail "
        "FOR EACH ROW EXECUTE FUNCTION andon_at_its_end()"
    )
    return {**made, "andon_trail_at_its_end": at_its_end}
