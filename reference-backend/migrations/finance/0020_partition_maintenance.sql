-- Who makes and drops partitions: a role that owns the tables partitioned by month and nothing else, so that a running
-- process needs no superuser for it.
GRANT USAGE, CREATE ON SCHEMA public TO app_maintenance;
ALTER TABLE revenues_partitioned OWNER TO app_maintenance;
ALTER TABLE expenses_partitioned OWNER TO app_maintenance;

-- Partitions made before this migration.
DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN
        SELECT inhrelid::regclass FROM pg_inherits
        WHERE inhparent IN ('revenues_partitioned'::regclass, 'expenses_partitioned'::regclass)
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO app_maintenance', part);
    END LOOP;
END $$;

-- One row per run of the maintenance, so that every process can say when the last was, and what it did.
CREATE TABLE partition_runs (
    ran_at   timestamptz PRIMARY KEY DEFAULT clock_timestamp(),
    made     text[]      NOT NULL,
    dropped  text[]      NOT NULL,
    findings text[]      NOT NULL  -- what the check found afterwards; empty when all is well
);
GRANT SELECT ON partition_runs TO app_rw, app_ro;
GRANT SELECT, INSERT ON partition_runs TO app_maintenance;
-- The check looks for events that found no partition.
GRANT SELECT ON projection_dead_letters TO app_maintenance;
