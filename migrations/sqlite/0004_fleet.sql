-- The fleet. One row an account: what runs and what it has cost that is not posted (`book`), and what was
-- taken out of that and may not be posted yet (`outbox`), written together.

CREATE TABLE fleet_book (
    account  TEXT PRIMARY KEY NOT NULL,
    book     TEXT NOT NULL,
    outbox   TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Who made what, by the event of the cloud's own record; the first word of an event stays.

CREATE TABLE creation (
    event    TEXT    PRIMARY KEY NOT NULL,
    account  TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    body     TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX creation_at ON creation (at);

-- List prices as they were fetched; a later one takes the place of an earlier one.

CREATE TABLE fleet_price (
    region      TEXT    NOT NULL,
    rate        TEXT    NOT NULL,
    usd         INTEGER NOT NULL,
    fetched_at  INTEGER NOT NULL,
    PRIMARY KEY (region, rate)
) STRICT, WITHOUT ROWID;
