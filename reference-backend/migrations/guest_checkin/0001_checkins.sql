-- Guests who arrive. A check-in belongs to a reservation of the hospitality database; the service that writes it has checked
-- that. `version` counts changes from 1; `creation` is what a client's create was and got, for its retries.
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
    creation       json,
    PRIMARY KEY (org_id, id)
);

-- A reservation is checked in once, unless that was cancelled.
CREATE UNIQUE INDEX checkins_live ON checkins (org_id, reservation_id) WHERE status <> 'cancelled';
-- Serves "the check-ins of a reservation", cancelled ones too.
CREATE INDEX checkins_by_reservation ON checkins (org_id, reservation_id, id);
-- Serves "the check-ins of a property, page by page".
CREATE INDEX checkins_by_property ON checkins (org_id, property_id, id);
-- Serves "who is at the desk now". Few are, of all that ever were.
CREATE INDEX checkins_started ON checkins (org_id, property_id, id) WHERE status = 'started';

GRANT USAGE ON SCHEMA public TO app_rw, app_ro;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app_rw;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO app_ro;
