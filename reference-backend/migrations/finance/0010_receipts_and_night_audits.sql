-- Pictures of receipts, kept with expenses. The picture is an object of the bucket `receipts`; a receipt exists if its row does.
CREATE TABLE receipts (
    org_id     bigint      NOT NULL,
    id         uuid        NOT NULL,  -- the Idempotency-Key of its upload
    parent_id  uuid        NOT NULL,  -- the expense; the service that writes it has checked that
    object     uuid        NOT NULL,  -- the object's name is <org_id>/<object>; each upload has its own
    media      text        NOT NULL,  -- its Content-Type
    bytes      bigint      NOT NULL CHECK (bytes > 0),
    sha256     bytea       NOT NULL CHECK (octet_length(sha256) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id)
);
-- Serves "the receipts of an expense, in order".
CREATE INDEX receipts_by_parent ON receipts (org_id, parent_id, id);
-- Serves the sweep's "is this object named by a row".
CREATE UNIQUE INDEX receipts_by_object ON receipts (org_id, object);

-- A property's day, closed: what the books said when it was. Entries booked on that day later do not change it; `position` says
-- which had been counted.
CREATE TABLE night_audits (
    org_id        bigint      NOT NULL,
    property_id   uuid        NOT NULL,
    date          date        NOT NULL,  -- the day closed
    opening_cents bigint      NOT NULL,
    revenue_cents bigint      NOT NULL,
    expense_cents bigint      NOT NULL,
    closing_cents bigint      NOT NULL CHECK (closing_cents = opening_cents + revenue_cents - expense_cents),
    open_checkins bigint      NOT NULL CHECK (open_checkins >= 0),  -- begun and neither completed nor cancelled
    no_shows      bigint      NOT NULL CHECK (no_shows >= 0),       -- arrivals of the day that did not come
    position      bigint      NOT NULL,  -- of the last event in the organisation's shard that was counted
    audited_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, property_id, date)  -- serves "one property's audits, newest first"
);
-- Serves "an organisation's audits, newest first".
CREATE INDEX night_audits_by_date ON night_audits (org_id, date, property_id);

-- The category too, so that profit and loss by category is read from the index alone, for one property and for all: no
-- further index, which every event would have to pay for.
DROP INDEX revenues_by_property;
DROP INDEX expenses_by_property;
CREATE INDEX revenues_by_property ON revenues_partitioned (org_id, property_id, date) INCLUDE (category, amount_cents);
CREATE INDEX expenses_by_property ON expenses_partitioned (org_id, property_id, date) INCLUDE (category, amount_cents);

GRANT SELECT, INSERT, DELETE ON receipts TO app_rw;
-- What was closed stays closed.
GRANT SELECT, INSERT ON night_audits TO app_rw;
GRANT SELECT ON receipts, night_audits TO app_ro;
