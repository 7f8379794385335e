-- How an organisation looks: its name for guests, two colours, a logo. One row each, made when first set.
CREATE TABLE branding (
    org_id           bigint      PRIMARY KEY REFERENCES organisations (org_id) ON DELETE CASCADE,
    display_name     text,
    primary_colour   text        CHECK (primary_colour ~ '^#[0-9a-f]{6}$'),
    accent_colour    text        CHECK (accent_colour ~ '^#[0-9a-f]{6}$'),
    logo_object      uuid,       -- the object's name is <org_id>/<logo_object> in the bucket `logos`; each upload has its own
    logo_media       text,       -- its Content-Type
    logo_bytes       bigint      CHECK (logo_bytes > 0),
    logo_sha256      bytea       CHECK (octet_length(logo_sha256) = 32),
    version          integer     NOT NULL DEFAULT 1,
    updated_at       timestamptz NOT NULL DEFAULT now(),
    CHECK (num_nulls(logo_object, logo_media, logo_bytes, logo_sha256) IN (0, 4))
);
-- Serves the sweep's "is this object named by a row".
CREATE UNIQUE INDEX branding_by_logo ON branding (org_id, logo_object) WHERE logo_object IS NOT NULL;

GRANT SELECT, INSERT, UPDATE ON branding TO app_rw;
GRANT SELECT ON branding TO app_ro;
