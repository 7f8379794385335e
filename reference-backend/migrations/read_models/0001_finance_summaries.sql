-- What screens show, ready made. Figures that change with every event stand outside the indexed document, so that most
-- updates leave the GIN index alone and can be heap-only.
CREATE TABLE finance_summaries (
    org_id          bigint  NOT NULL,
    property_id     uuid    NOT NULL,
    revenue_cents   bigint  NOT NULL,
    expense_cents   bigint  NOT NULL,
    entry_count     bigint  NOT NULL,
    last_entry_date date,
    version         integer NOT NULL,  -- of the cash account
    doc             jsonb   NOT NULL,  -- {"revenue_categories": [..], "expense_categories": [..]}, sorted
    PRIMARY KEY (org_id, property_id)
) WITH (fillfactor = 80);

-- Serves "which properties book a category".
CREATE INDEX finance_summaries_doc ON finance_summaries USING gin (doc jsonb_path_ops);

CREATE TABLE projection_checkpoints (
    projection text     NOT NULL,
    shard      smallint NOT NULL,
    position   bigint   NOT NULL,
    PRIMARY KEY (projection, shard)
);

GRANT USAGE ON SCHEMA public TO app_rw, app_ro;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app_rw;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO app_ro;
