-- Money, by entry and by day. All amounts are whole cents. Filled by the finance projection from the event store;
-- an entry's id is the id of the command that recorded it.
--
-- Monthly partitions of the two entry tables are made by the partition manager, never by a migration, and there is
-- no DEFAULT partition: it would forbid DETACH CONCURRENTLY, and a stray row should fail loudly.
CREATE TABLE revenues_partitioned (
    org_id       bigint      NOT NULL,
    date         date        NOT NULL,
    id           uuid        NOT NULL,
    property_id  uuid        NOT NULL,
    category     text        NOT NULL,
    amount_cents bigint      NOT NULL CHECK (amount_cents > 0),
    recorded_at  timestamptz NOT NULL,
    PRIMARY KEY (org_id, date, id)  -- also serves "an organisation's revenues of a period, newest first"
) PARTITION BY RANGE (date);

CREATE TABLE expenses_partitioned (
    org_id       bigint      NOT NULL,
    date         date        NOT NULL,
    id           uuid        NOT NULL,
    property_id  uuid        NOT NULL,
    category     text        NOT NULL,
    amount_cents bigint      NOT NULL CHECK (amount_cents > 0),
    recorded_at  timestamptz NOT NULL,
    PRIMARY KEY (org_id, date, id)
) PARTITION BY RANGE (date);

-- Serves "revenue of one property by day" from the index alone.
CREATE INDEX revenues_by_property ON revenues_partitioned (org_id, property_id, date) INCLUDE (amount_cents);
CREATE INDEX expenses_by_property ON expenses_partitioned (org_id, property_id, date) INCLUDE (amount_cents);

-- One row per property and day with entries. closing = opening + revenue - expense, and a day opens as the property's
-- previous row closed.
CREATE TABLE daily_cash_balances_partitioned (
    org_id         bigint NOT NULL,
    property_id    uuid   NOT NULL,
    date           date   NOT NULL,
    opening_cents  bigint NOT NULL,
    revenue_cents  bigint NOT NULL,
    expense_cents  bigint NOT NULL,
    closing_cents  bigint NOT NULL CHECK (closing_cents = opening_cents + revenue_cents - expense_cents),
    PRIMARY KEY (org_id, property_id, date)
) PARTITION BY HASH (org_id);

DO $$
BEGIN
    FOR part IN 0..15 LOOP
        EXECUTE format(
            'CREATE TABLE daily_cash_balances_p%s PARTITION OF daily_cash_balances_partitioned '
            'FOR VALUES WITH (MODULUS 16, REMAINDER %s) WITH (fillfactor = 80)', lpad(part::text, 2, '0'), part);
    END LOOP;
END $$;

-- How far each projection has read each shard of the event store; moved in the same transaction as the rows above.
CREATE TABLE projection_checkpoints (
    projection text     NOT NULL,
    shard      smallint NOT NULL,
    position   bigint   NOT NULL,
    PRIMARY KEY (projection, shard)
);

GRANT USAGE ON SCHEMA public TO app_rw, app_ro;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app_rw;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO app_ro;
