"""The tables as the newest version has them. How they come about is in ``migrations``; a test holds the two together.

What is *recorded* is only ever added to: the trail and the five things that it names. A column added later must take
NULL, so that what was hashed before it stays what it was (:func:`andon.records.trail.canonical`).
Times are text, ISO 8601 in UTC with microseconds, which sorts as it should and is the same in every database.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, Integer, MetaData, Table, Text

METADATA = MetaData()


def _number() -> Column[int]:
    return Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True)


def _told() -> list[Column[str]]:
    """When, who, and in which session."""
    return [Column(name, Text, nullable=False) for name in ("at", "who", "session")]


TRAIL = Table(
    "andon_trail", METADATA,
    Column("seq", BigInteger, primary_key=True),
    Column("at", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("thing", Text),  # a key of THINGS
    Column("thing_id", BigInteger),
    Column("artifact_hash", Text),
    Column("details", Text, nullable=False),  # canonical JSON
    Column("payload_hash", Text, nullable=False),
    Column("previous", Text, nullable=False),
    Column("hash", Text, nullable=False),
)  # fmt: skip
INSPECTIONS = Table(
    "andon_inspections", METADATA,
    _number(), *_told(),
    Column("artifact_name", Text, nullable=False),
    Column("artifact_hash", Text, nullable=False),
    Column("image_name", Text, nullable=False),
    Column("image_hash", Text),
    Column("image_kept", Boolean, nullable=False),
    Column("overlay_hash", Text),
    Column("overlay_kept", Boolean, nullable=False),
    Column("height", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    Column("decision", Text, nullable=False),
    Column("score", Double),
    Column("image_score", Double),
    Column("threshold", Double),
    Column("group_name", Text, nullable=False),
    Column("regions", Text, nullable=False),  # JSON
    Column("sentence", Text, nullable=False),
    Column("notes", Text, nullable=False),  # JSON
    Column("not_inspected", Double, nullable=False),
    Column("milliseconds", Double, nullable=False),
    Column("line", Text),  # with the next, the name of a line's result; NULL where a person inspected
    Column("sequence", BigInteger),
    Column("part", Text),
)  # fmt: skip
DECISIONS = Table(
    "andon_decisions", METADATA,
    _number(), *_told(),
    Column("inspection", BigInteger, nullable=False),
    Column("answer", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("note", Text, nullable=False),
)  # fmt: skip
CHANGES = Table(
    "andon_changes", METADATA,
    _number(), *_told(),
    Column("kind", Text, nullable=False),
    Column("artifact_name", Text, nullable=False),
    Column("artifact_hash", Text, nullable=False),
    Column("artifact_hash_after", Text),
    Column("before", Text, nullable=False),  # JSON
    Column("after", Text, nullable=False),  # JSON
    Column("why", Text, nullable=False),
)  # fmt: skip
SESSIONS = Table(
    "andon_sessions", METADATA,
    _number(),
    Column("at", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("proof", Text, nullable=False),
)  # fmt: skip
USERS = Table(  # every state that an account was ever in; the newest row of a name counts
    "andon_users", METADATA,
    _number(), *_told(),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("password_digest", Text, nullable=False),  # SHA-256 of the password's hash in PASSWORDS
)  # fmt: skip

# What may change; the trail says what is needed to check it.
PASSWORDS = Table(
    "andon_passwords", METADATA, Column("name", Text, primary_key=True), Column("hash", Text, nullable=False)
)  # fmt: skip
ATTEMPTS = Table(  # wrong passwords of late
    "andon_attempts", METADATA,
    Column("name", Text, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("at", Text, nullable=False),
)  # fmt: skip
PICTURES = Table(  # files that are kept
    "andon_pictures", METADATA,
    Column("hash", Text, primary_key=True),
    Column("suffix", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("at", Text, nullable=False),  # when it was last inspected
)  # fmt: skip

THINGS = {
    "inspection": INSPECTIONS,
    "decision": DECISIONS,
    "change": CHANGES,
    "session": SESSIONS,
    "user": USERS,
}
