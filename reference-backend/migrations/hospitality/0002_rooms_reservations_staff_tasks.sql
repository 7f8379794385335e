-- What happens in a property. Foreign keys hold the organisation too, so that no row can name another organisation's.
-- `version` counts changes from 1. `creation` is what a client's create was and got, for its retries; NULL in rows that came
-- another way.
CREATE EXTENSION IF NOT EXISTS btree_gist;  -- = on numbers and UUIDs beside && on ranges, in one exclusion constraint
CREATE EXTENSION IF NOT EXISTS btree_gin;   -- the organisation beside a document, in one GIN index

ALTER TABLE properties
    ADD version    integer     NOT NULL DEFAULT 1,
    ADD updated_at timestamptz NOT NULL DEFAULT now(),
    ADD creation   json;

CREATE TABLE rooms (
    org_id      bigint      NOT NULL,
    id          uuid        NOT NULL,
    property_id uuid        NOT NULL,
    name        text        NOT NULL,
    kind        text        NOT NULL,
    beds        integer     NOT NULL CHECK (beds > 0),
    status      text        NOT NULL DEFAULT 'clean' CHECK (status IN ('clean', 'dirty', 'out_of_order')),
    version     integer     NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    creation    json,
    PRIMARY KEY (org_id, id),
    CONSTRAINT rooms_property FOREIGN KEY (org_id, property_id) REFERENCES properties,
    -- Serves "the rooms of a property, page by page", and is what reservations refer to.
    CONSTRAINT rooms_of_property UNIQUE (org_id, property_id, id),
    CONSTRAINT rooms_name UNIQUE (org_id, property_id, name)
);

-- Serves "which rooms of a property are to be cleaned".
CREATE INDEX rooms_dirty ON rooms (org_id, property_id, id) WHERE status = 'dirty';

CREATE TABLE reservations (
    org_id       bigint      NOT NULL,
    id           uuid        NOT NULL,
    property_id  uuid        NOT NULL,
    room_id      uuid,
    guest_name   text        NOT NULL,
    arrival      date        NOT NULL,
    departure    date        NOT NULL,
    status       text        NOT NULL DEFAULT 'booked' CHECK (status IN ('booked', 'checked_in', 'checked_out', 'cancelled')),
    source       text        NOT NULL DEFAULT 'direct' CHECK (source IN ('direct', 'ota')),
    external_ref text,
    amount_cents bigint      NOT NULL DEFAULT 0 CHECK (amount_cents >= 0),
    details      jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(details) = 'object'),
    version      integer     NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    creation     json,
    PRIMARY KEY (org_id, id),
    CONSTRAINT reservations_nights CHECK (departure > arrival AND departure <= arrival + 366),
    CONSTRAINT reservations_property FOREIGN KEY (org_id, property_id) REFERENCES properties,
    -- A room of the same property.
    CONSTRAINT reservations_room FOREIGN KEY (org_id, property_id, room_id) REFERENCES rooms (org_id, property_id, id),
    -- A room is not booked twice for a night; the day of departure is free for the next guest. Also serves "which rooms are
    -- free from day to day".
    CONSTRAINT reservations_room_nights EXCLUDE USING gist
        (org_id WITH =, room_id WITH =, daterange(arrival, departure) WITH &&)
        WHERE (room_id IS NOT NULL AND status IN ('booked', 'checked_in'))
);

-- Serves "the reservations of a property by arrival", and from the index alone "who arrives today".
CREATE INDEX reservations_by_property ON reservations (org_id, property_id, arrival, id)
    INCLUDE (departure, room_id, guest_name, status);
-- Serves "the reservations of all properties by arrival".
CREATE INDEX reservations_by_arrival ON reservations (org_id, arrival, id);
-- Serves "the reservations whose details say …" of one organisation.
CREATE INDEX reservations_details ON reservations USING gin (org_id, details jsonb_path_ops);
-- Serves the upsert of what the channel manager knows.
CREATE UNIQUE INDEX reservations_external_ref ON reservations (org_id, external_ref) WHERE external_ref IS NOT NULL;

CREATE TABLE staff (
    org_id      bigint      NOT NULL,
    id          uuid        NOT NULL,
    property_id uuid        NOT NULL,
    name        text        NOT NULL,
    role        text        NOT NULL CHECK (role IN ('reception', 'housekeeping', 'maintenance', 'kitchen', 'management')),
    active      boolean     NOT NULL DEFAULT true,
    version     integer     NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    creation    json,
    PRIMARY KEY (org_id, id),
    CONSTRAINT staff_property FOREIGN KEY (org_id, property_id) REFERENCES properties
);

-- Serves "who works in a property now". Those who left are many and seldom asked for.
CREATE INDEX staff_active ON staff (org_id, property_id, id) WHERE active;

CREATE TABLE tasks (
    org_id      bigint      NOT NULL,
    id          uuid        NOT NULL,
    property_id uuid        NOT NULL,
    title       text        NOT NULL,
    status      text        NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'done', 'cancelled')),
    assignee_id uuid,
    due_at      timestamptz,
    reminded_at timestamptz,  -- of the present due_at
    version     integer     NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    creation    json,
    PRIMARY KEY (org_id, id),
    CONSTRAINT tasks_property FOREIGN KEY (org_id, property_id) REFERENCES properties,
    CONSTRAINT tasks_assignee FOREIGN KEY (org_id, assignee_id) REFERENCES staff
);

-- Serves "the tasks of a property, page by page".
CREATE INDEX tasks_by_property ON tasks (org_id, property_id, id);
-- Serves "the tasks of one of the staff".
CREATE INDEX tasks_by_assignee ON tasks (org_id, assignee_id, id) WHERE assignee_id IS NOT NULL;
-- Serves "what an organisation has to do, the most urgent first".
CREATE INDEX tasks_open_by_due ON tasks (org_id, due_at, id) WHERE status = 'open' AND due_at IS NOT NULL;
-- Serves the reminders: "what is due by now and nobody was reminded of", of all organisations.
CREATE INDEX tasks_to_remind ON tasks (due_at) WHERE status = 'open' AND reminded_at IS NULL;

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app_rw;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO app_ro;
