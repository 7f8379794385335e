-- Organisations and their users. Written rarely, read on nearly every request, so small and narrow.
CREATE TABLE organisations (
    org_id      bigint      PRIMARY KEY CHECK (org_id > 0),
    name        text        NOT NULL,
    size_class  text        NOT NULL CHECK (size_class IN ('micro', 'small', 'medium', 'large')),
    country     char(2)     NOT NULL,
    currency    char(3)     NOT NULL,
    version     integer     NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL
);

CREATE TABLE users (
    org_id      bigint      NOT NULL,
    user_id     uuid        NOT NULL,
    name        text        NOT NULL,
    email       text        NOT NULL,
    role        text        NOT NULL CHECK (role IN ('owner', 'manager', 'clerk')),
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (org_id, user_id)
);

GRANT USAGE ON SCHEMA public TO app_rw, app_ro;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app_rw;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO app_ro;
