-- Drills of the kill switch: what a list tells of each (`head`), and the report as it was made. Its digest is in
-- the head and in the audit log, written in the same transaction.

CREATE TABLE drill (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    id      BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    agent   TEXT    NOT NULL,
    kind    TEXT    NOT NULL,
    head    TEXT    NOT NULL,
    report  TEXT    NOT NULL
) STRICT;

CREATE INDEX drill_agent ON drill (agent, kind, seq);

-- What a restore settled is looked up for the evidence of a drill.
CREATE INDEX image_restored ON image (agent, seq) WHERE restored = 1;
