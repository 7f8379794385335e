-- Events that a projection could not take, whatever the try, because a rule of a table forbids their rows. Set aside in the
-- transaction that moves the checkpoint past them, so that one event does not stop all tenants. Any row here means that the
-- tables lack an acknowledged event.
CREATE TABLE projection_dead_letters (
    projection   text        NOT NULL,
    shard        smallint    NOT NULL,
    position     bigint      NOT NULL,
    org_id       bigint      NOT NULL,
    command_id   uuid        NOT NULL,
    reason       text        NOT NULL,  -- what PostgreSQL said
    set_aside_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (projection, shard, position)
);

GRANT SELECT, INSERT ON projection_dead_letters TO app_rw;
GRANT SELECT ON projection_dead_letters TO app_ro;
