-- The organisations that every process loads into its caches when it starts and when there is a new list. Replaced as a
-- whole, so all rows have the same time.
CREATE TABLE warm_list (
    org_id      bigint      PRIMARY KEY,
    rank        integer     NOT NULL UNIQUE,  -- 1 is the busiest
    events      bigint      NOT NULL,         -- counted to rank it
    computed_at timestamptz NOT NULL
);

GRANT SELECT, INSERT, UPDATE, DELETE ON warm_list TO app_rw;
GRANT SELECT ON warm_list TO app_ro;
