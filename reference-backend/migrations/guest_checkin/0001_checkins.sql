-- Guests who arrive. A check-in belongs to a reservation of the hospitality database; the service that writes it has checked that.
CREATE TABLE checkins (
    org_id         bigint      NOT NULL,
    id             uuid        NOT NULL,
    reservation_id uuid        NOT NULL,
    property_id    uuid        NOT NULL,
    guest_name     text        NOT NULL,
    status         text        NOT NULL CHECK (status IN ('started', 'completed', 'cancelled')),
    version        integer     NOT NULL DEFAULT 1,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id)
);

GRANT USAGE ON SCHEMA public TO app_rw, app_ro;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app_rw;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO app_ro;
