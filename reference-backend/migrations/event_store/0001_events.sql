-- The event store. A shard is a fixed function of the organisation; each shard has one writer, which assigns positions
-- 1, 2, 3 … under its lease, so a position at or below the highest committed one can never appear later.
--
-- Partitioned by shard, not by time: only so can the primary key enforce "one event per version of an aggregate".
CREATE TABLE events (
    shard          smallint    NOT NULL,
    position       bigint      NOT NULL,
    org_id         bigint      NOT NULL,
    aggregate_type smallint    NOT NULL,  -- 1 = cash account (aggregate_id is the property's id)
    aggregate_id   uuid        NOT NULL,
    version        integer     NOT NULL CHECK (version > 0),
    event_type     smallint    NOT NULL,  -- 1 = revenue recorded, 2 = expense recorded
    schema_version smallint    NOT NULL DEFAULT 1,
    command_id     uuid        NOT NULL,
    recorded_at    timestamptz NOT NULL,
    data           jsonb       NOT NULL,
    PRIMARY KEY (shard, org_id, aggregate_type, aggregate_id, version),
    UNIQUE (shard, position)              -- also the index that readers follow
) PARTITION BY LIST (shard);

DO $$
BEGIN
    FOR part IN 0..7 LOOP
        EXECUTE format('CREATE TABLE events_s%s PARTITION OF events FOR VALUES IN (%s)', part, part);
    END LOOP;
END $$;

-- What each command did, so that a retry gets the first answer again. Written in the statement that writes the events.
CREATE TABLE append_dedup (
    org_id         bigint   NOT NULL,
    command_id     uuid     NOT NULL,
    shard          smallint NOT NULL,
    aggregate_type smallint NOT NULL,
    aggregate_id   uuid     NOT NULL,
    first_version  integer  NOT NULL,
    last_position  bigint   NOT NULL,
    event_count    integer  NOT NULL,
    PRIMARY KEY (org_id, command_id)
);

-- State of an aggregate at a version: loading starts here. History older than the store's first event is compacted into
-- these rows.
CREATE TABLE snapshots (
    org_id               bigint      NOT NULL,
    aggregate_type       smallint    NOT NULL,
    aggregate_id         uuid        NOT NULL,
    version              integer     NOT NULL CHECK (version >= 0),
    state_schema_version smallint    NOT NULL DEFAULT 1,
    state                jsonb       NOT NULL,
    taken_at             timestamptz NOT NULL,
    PRIMARY KEY (org_id, aggregate_type, aggregate_id)
);

GRANT USAGE ON SCHEMA public TO app_rw, app_ro;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app_rw;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO app_ro;
