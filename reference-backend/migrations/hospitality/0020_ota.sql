-- Exchange with the outside channel manager: which of its hotels is which property, and what was exchanged.
CREATE TABLE ota_connections (
    org_id      bigint      NOT NULL,
    property_id uuid        NOT NULL,
    -- The hotel's name at the channel manager. One hotel is one property: else two organisations would get its bookings.
    hotel_code  text        NOT NULL,
    rate_cents  bigint      NOT NULL CHECK (rate_cents > 0),
    push_days   integer     NOT NULL CHECK (push_days BETWEEN 1 AND 366),
    enabled     boolean     NOT NULL DEFAULT true,
    -- Place in the hotel's list of bookings up to which they were pulled.
    pulled_to   bigint      NOT NULL DEFAULT 0 CHECK (pulled_to >= 0),
    version     integer     NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, property_id),
    CONSTRAINT ota_connections_property FOREIGN KEY (org_id, property_id) REFERENCES properties,
    CONSTRAINT ota_connections_hotel UNIQUE (hotel_code)
);

CREATE TABLE ota_exchanges (
    org_id      bigint      NOT NULL,
    id          uuid        NOT NULL,
    property_id uuid        NOT NULL,
    kind        text        NOT NULL CHECK (kind IN ('push', 'pull')),
    outcome     text        NOT NULL CHECK (outcome IN ('done', 'refused', 'failed')),
    -- Days pushed, or bookings pulled.
    items       integer     NOT NULL DEFAULT 0 CHECK (items >= 0),
    detail      text        NOT NULL DEFAULT '',
    began_at    timestamptz NOT NULL,
    ended_at    timestamptz NOT NULL,
    PRIMARY KEY (org_id, id),
    CONSTRAINT ota_exchanges_connection FOREIGN KEY (org_id, property_id) REFERENCES ota_connections
);

-- Serves "the exchanges of an organisation, the latest first".
CREATE INDEX ota_exchanges_latest ON ota_exchanges (org_id, began_at DESC, id DESC);
-- Serves the end of what is kept.
CREATE INDEX ota_exchanges_by_time ON ota_exchanges USING brin (began_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app_rw;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO app_ro;
