-- `version` counts changes from 1. `creation` is what a client's create was and got, for its retries; NULL in rows that came
-- another way.
ALTER TABLE users
    ADD version    integer     NOT NULL DEFAULT 1,
    ADD updated_at timestamptz NOT NULL DEFAULT now(),
    ADD creation   json;

-- One user per address in an organisation. Serves "the user with this address".
CREATE UNIQUE INDEX users_email ON users (org_id, lower(email));

-- What an organisation should know. The id is derived from the cause, so that a cause that is told twice is one row.
CREATE TABLE notifications (
    org_id     bigint      NOT NULL,
    id         uuid        NOT NULL,
    kind       text        NOT NULL,
    title      text        NOT NULL,
    body       text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    read_at    timestamptz,
    PRIMARY KEY (org_id, id)
);

-- Serves "the notifications of an organisation, newest first".
CREATE INDEX notifications_newest ON notifications (org_id, created_at, id);
-- Serves "the unread ones, newest first", and from the index alone how many there are.
CREATE INDEX notifications_unread ON notifications (org_id, created_at, id) WHERE read_at IS NULL;

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app_rw;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO app_ro;
