-- The ledger: epochs, lines, holds, postings and their entries, and what is derived from them.
--
-- Times are microseconds since 1970 (hours and days where a column says so), money is nano-dollars,
-- UUIDs are 16 bytes, and enumerations are the small integers of `src/store/sqlite/codec.rs`.

-- One row: the ledger's clock, and the flag without which nothing may be deleted.
CREATE TABLE meta (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    clock       INTEGER,
    rolling_up  INTEGER NOT NULL DEFAULT 0 CHECK (rolling_up IN (0, 1))
) STRICT;
INSERT INTO meta (id) VALUES (1);

-- One run of the daemon. `last_seq` is the number of its last batch that is on disk.
CREATE TABLE epoch (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    host        TEXT    NOT NULL,
    opened_at   INTEGER NOT NULL,
    closed_at   INTEGER,
    last_seq    INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX epoch_open ON epoch (id) WHERE closed_at IS NULL;

-- A budget's rule for one key and one window. The key has no NULL, so that it is unique: the fleet's
-- agent is empty (an agent id never is), an unbounded window runs from -10^18 to 10^18.
CREATE TABLE line (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    budget        TEXT    NOT NULL,
    agent         TEXT    NOT NULL,
    value         TEXT    NOT NULL,
    window_start  INTEGER NOT NULL,
    window_end    INTEGER NOT NULL,
    rule          TEXT    NOT NULL,
    raise         INTEGER NOT NULL,
    revision      INTEGER NOT NULL,
    lifted_until  INTEGER,
    posted        INTEGER NOT NULL,
    held          INTEGER NOT NULL,
    unresolved    INTEGER NOT NULL,
    overage       INTEGER NOT NULL,
    alerted       INTEGER NOT NULL,
    breached      INTEGER,
    UNIQUE (budget, agent, value, window_start, window_end)
) STRICT;
CREATE INDEX line_agent ON line (agent, window_end);
CREATE INDEX line_end ON line (window_end);

-- The live buckets of a rolling line.
CREATE TABLE bucket (
    line        INTEGER NOT NULL REFERENCES line (id),
    start       INTEGER NOT NULL,
    posted      INTEGER NOT NULL,
    unresolved  INTEGER NOT NULL,
    PRIMARY KEY (line, start)
) STRICT, WITHOUT ROWID;

-- A durable reservation. `lines` is a JSON array of line ids: they are always read and written whole.
CREATE TABLE hold (
    id          BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    epoch       INTEGER NOT NULL REFERENCES epoch (id),
    agent       TEXT    NOT NULL,
    task        TEXT    NOT NULL,
    service     TEXT,
    model       TEXT,
    tool        TEXT,
    labels      TEXT,
    trust       INTEGER NOT NULL,
    bound       INTEGER NOT NULL,
    lines       TEXT    NOT NULL,
    state       INTEGER NOT NULL,
    opened_at   INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    ended_at    INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX hold_open ON hold (epoch, expires_at) WHERE state = 0;
CREATE INDEX hold_voided ON hold (ended_at) WHERE state = 2;

-- Money spent. `seq` is the order of recording and is never used twice, even after a roll-up.
CREATE TABLE posting (
    seq               INTEGER PRIMARY KEY AUTOINCREMENT,
    id                BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    kind              INTEGER NOT NULL,
    agent             TEXT    NOT NULL,
    task              TEXT    NOT NULL,
    service           TEXT,
    model             TEXT,
    tool              TEXT,
    labels            TEXT,
    amount            INTEGER NOT NULL,
    basis             INTEGER NOT NULL,
    trust             INTEGER NOT NULL,
    occurred_at       INTEGER NOT NULL,
    recorded_at       INTEGER NOT NULL,
    report            TEXT,
    hold              BLOB,
    corrects          BLOB,
    upstream_request  TEXT,
    epoch             INTEGER NOT NULL REFERENCES epoch (id),
    detail            TEXT
) STRICT;
CREATE INDEX posting_agent ON posting (agent);
CREATE INDEX posting_hold ON posting (hold) WHERE hold IS NOT NULL;
CREATE INDEX posting_corrects ON posting (corrects) WHERE corrects IS NOT NULL;
CREATE INDEX posting_unresolved ON posting (seq) WHERE kind = 2;

-- A posting's share on one line.
CREATE TABLE entry (
    posting     INTEGER NOT NULL REFERENCES posting (seq),
    line        INTEGER NOT NULL REFERENCES line (id),
    amount      INTEGER NOT NULL,
    unresolved  INTEGER NOT NULL,
    bucket      INTEGER,
    PRIMARY KEY (posting, line)
) STRICT, WITHOUT ROWID;

-- Entries that were rolled up. `hour` is the start of the hour in which they occurred.
CREATE TABLE entry_hour (
    line        INTEGER NOT NULL REFERENCES line (id),
    hour        INTEGER NOT NULL,
    amount      INTEGER NOT NULL,
    unresolved  INTEGER NOT NULL,
    PRIMARY KEY (line, hour)
) STRICT, WITHOUT ROWID;

-- Report ids; they outlive their postings (L6). Those of an agent's own word (0) and those of evidence
-- about it (1) are apart.
CREATE TABLE report (
    agent     TEXT    NOT NULL,
    evidence  INTEGER NOT NULL CHECK (evidence IN (0, 1)),
    report    TEXT    NOT NULL,
    digest    BLOB    NOT NULL CHECK (length(digest) = 32),
    posting   BLOB,
    PRIMARY KEY (agent, evidence, report)
) STRICT, WITHOUT ROWID;

-- Upstream request ids that were metered here; they outlive their postings too (L6).
CREATE TABLE metered (
    agent    TEXT NOT NULL,
    request  TEXT NOT NULL,
    posting  BLOB NOT NULL,
    PRIMARY KEY (agent, request)
) STRICT, WITHOUT ROWID;

-- What a spend report adds up. `spend_day` is `spend_hour` without tasks, and `spend_task` has nothing but
-- tasks: a report over months reads few rows, and in the order in which it groups them. Hours and days
-- count from 1970; none is the empty text.
CREATE TABLE spend_hour (
    hour        INTEGER NOT NULL,
    agent       TEXT    NOT NULL,
    task        TEXT    NOT NULL,
    model       TEXT    NOT NULL,
    service     TEXT    NOT NULL,
    tool        TEXT    NOT NULL,
    amount      INTEGER NOT NULL,
    unresolved  INTEGER NOT NULL,
    postings    INTEGER NOT NULL,
    PRIMARY KEY (hour, agent, task, model, service, tool)
) STRICT, WITHOUT ROWID;
CREATE INDEX spend_hour_task ON spend_hour (agent, task);

CREATE TABLE spend_day (
    day         INTEGER NOT NULL,
    agent       TEXT    NOT NULL,
    model       TEXT    NOT NULL,
    service     TEXT    NOT NULL,
    tool        TEXT    NOT NULL,
    amount      INTEGER NOT NULL,
    unresolved  INTEGER NOT NULL,
    postings    INTEGER NOT NULL,
    PRIMARY KEY (day, agent, model, service, tool)
) STRICT, WITHOUT ROWID;

CREATE TABLE spend_task (
    agent       TEXT    NOT NULL,
    task        TEXT    NOT NULL,
    day         INTEGER NOT NULL,
    amount      INTEGER NOT NULL,
    unresolved  INTEGER NOT NULL,
    postings    INTEGER NOT NULL,
    PRIMARY KEY (agent, task, day)
) STRICT, WITHOUT ROWID;

-- Whose entries a fleet line is the sum of, so that its breach finds its causers. `bucket` is 0 on a
-- line without buckets; the rows of a bucket go with it.
CREATE TABLE fleet_share (
    line        INTEGER NOT NULL REFERENCES line (id),
    bucket      INTEGER NOT NULL,
    agent       TEXT    NOT NULL,
    amount      INTEGER NOT NULL,
    unresolved  INTEGER NOT NULL,
    PRIMARY KEY (line, bucket, agent)
) STRICT, WITHOUT ROWID;

-- What a commit found that judgement must look at.
CREATE TABLE pending_trigger (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    response  TEXT    NOT NULL,
    body      TEXT    NOT NULL,
    settled   INTEGER NOT NULL DEFAULT 0 CHECK (settled IN (0, 1))
) STRICT;
CREATE INDEX pending_trigger_open ON pending_trigger (id) WHERE settled = 0;

-- L1: nothing edits a posting or an entry, and only a roll-up deletes one.
CREATE TRIGGER posting_is_not_edited BEFORE UPDATE ON posting
BEGIN SELECT RAISE(ABORT, 'a posting is never edited'); END;
CREATE TRIGGER posting_is_not_deleted BEFORE DELETE ON posting
WHEN (SELECT rolling_up FROM meta WHERE id = 1) = 0
BEGIN SELECT RAISE(ABORT, 'a posting is never deleted'); END;
CREATE TRIGGER entry_is_not_edited BEFORE UPDATE ON entry
BEGIN SELECT RAISE(ABORT, 'an entry is never edited'); END;
CREATE TRIGGER entry_is_not_deleted BEFORE DELETE ON entry
WHEN (SELECT rolling_up FROM meta WHERE id = 1) = 0
BEGIN SELECT RAISE(ABORT, 'an entry is never deleted'); END;
-- L6: a report id stays what it was.
CREATE TRIGGER report_is_not_edited BEFORE UPDATE ON report
BEGIN SELECT RAISE(ABORT, 'a report id is never edited'); END;
CREATE TRIGGER report_is_not_deleted BEFORE DELETE ON report
BEGIN SELECT RAISE(ABORT, 'a report id is never deleted'); END;
