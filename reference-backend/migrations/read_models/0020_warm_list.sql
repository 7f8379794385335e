-- The organisations that every process loads into its caches when it starts and when there is a new list. Replaced as a
-- whole, so all rows have the same time.
CREATE TABLE warm_list (
    org_id      bigint      PRIMARY KEY,
    rank        integer     NOT NULL UNIQUE,  -- 1 is the busiest
    events      bigint      NOT NULL,         -- counted to rank it
    computed_at timestamptz NOT NULL
);

-- Organisations whose rows were put right other than by an event. Every process drops what it holds of them, and loads
-- again only from servers that have replayed `lsn`. Ids are in commit order: see the lock of who inserts.
CREATE TABLE repairs (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org_id      bigint      NOT NULL,
    lsn         bigint      NOT NULL,         -- bytes from the beginning of the log
    repaired_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

GRANT SELECT, INSERT, UPDATE, DELETE ON warm_list, repairs TO app_rw;
GRANT SELECT ON warm_list, repairs TO app_ro;
