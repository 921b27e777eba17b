-- Judgement, containment, credentials and the audit log. Records that only their own rules read are
-- kept whole, as JSON in `body`, beside the columns that a condition or an index needs.

CREATE TABLE agent (
    id       TEXT    PRIMARY KEY NOT NULL,
    status   INTEGER NOT NULL,
    version  INTEGER NOT NULL,
    body     TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE review (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    id       BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    agent    TEXT    NOT NULL,
    dedupe   TEXT    NOT NULL,
    decided  INTEGER NOT NULL CHECK (decided IN (0, 1)),
    body     TEXT    NOT NULL
) STRICT;
-- Two open reviews of one agent never ask the same thing.
CREATE UNIQUE INDEX review_open ON review (agent, dedupe) WHERE decided = 0;
CREATE INDEX review_agent ON review (agent, decided, seq);

CREATE TABLE containment (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    id       BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    agent    TEXT    NOT NULL,
    closed   INTEGER NOT NULL CHECK (closed IN (0, 1)),
    version  INTEGER NOT NULL,
    body     TEXT    NOT NULL
) STRICT;
-- One live containment an agent (C1).
CREATE UNIQUE INDEX containment_live ON containment (agent) WHERE closed = 0;
CREATE INDEX containment_agent ON containment (agent, seq);

-- A right to drive, with its fencing token (C6). A released lease keeps its token and has no holder.
CREATE TABLE lease (
    name        TEXT    PRIMARY KEY NOT NULL,
    holder      TEXT    NOT NULL,
    token       INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE image (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    agent     TEXT    NOT NULL,
    resource  TEXT    NOT NULL,
    restored  INTEGER NOT NULL CHECK (restored IN (0, 1)),
    body      TEXT    NOT NULL
) STRICT;
-- The first before-image that was not restored is the one that counts (C1).
CREATE UNIQUE INDEX image_unrestored ON image (agent, resource) WHERE restored = 0;

CREATE TABLE step (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    containment  BLOB    NOT NULL CHECK (length(containment) = 16),
    id           TEXT    NOT NULL,
    body         TEXT    NOT NULL,
    UNIQUE (containment, id)
) STRICT;

CREATE TABLE agent_key (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    agent       TEXT    NOT NULL,
    hash        BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    created_at  INTEGER NOT NULL,
    revoked_at  INTEGER
) STRICT;

CREATE TABLE audit (
    seq   INTEGER PRIMARY KEY NOT NULL,
    body  TEXT    NOT NULL,
    hash  BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;

-- D3: the audit log only grows.
CREATE TRIGGER audit_is_not_edited BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'an audit entry is never edited'); END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'an audit entry is never deleted'); END;
