-- What the consistency checks found: one open row for each account and check, however often it is found again. A repair
-- settles it.
CREATE TABLE findings (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind          text        NOT NULL CHECK (kind IN ('balances', 'summary')),
    org_id        bigint      NOT NULL,
    property_id   uuid        NOT NULL,
    from_date     date        NOT NULL,  -- first day that is wrong; of a summary, the day it was found
    reason        text        NOT NULL,
    times         integer     NOT NULL DEFAULT 1,
    found_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_found_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    settled_at    timestamptz,
    settled_by    text                   -- what the repair did
);

CREATE UNIQUE INDEX findings_open ON findings (kind, org_id, property_id) WHERE settled_at IS NULL;

-- Up to where the events have been looked at, so that the next check begins there.
CREATE TABLE check_progress (
    kind     text     NOT NULL,
    shard    smallint NOT NULL,
    position bigint   NOT NULL,
    PRIMARY KEY (kind, shard)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON findings, check_progress TO app_rw;
GRANT SELECT ON findings, check_progress TO app_ro;
