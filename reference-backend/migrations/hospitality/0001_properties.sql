-- Hotels and houses of an organisation. A command on a property is refused unless this table knows the pair.
CREATE TABLE properties (
    org_id      bigint      NOT NULL,
    property_id uuid        NOT NULL,
    name        text        NOT NULL,
    city        text        NOT NULL,
    rooms       integer     NOT NULL CHECK (rooms > 0),
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (org_id, property_id)
);

GRANT USAGE ON SCHEMA public TO app_rw, app_ro;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app_rw;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO app_ro;
