-- What was learnt of the cloud, kept for a start at which it does not answer. One row a fact, by the key
-- that `domain::containment::memory` gives it; a later word takes the place of an earlier one.

CREATE TABLE cloud_memory (
    key        TEXT    PRIMARY KEY NOT NULL,
    learnt_at  INTEGER NOT NULL,
    body       TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
