-- Pictures of what is to be done, kept with tasks. The picture is an object of the bucket `task-images`; it exists if its
-- row does. It goes with its task: the object is then a leftover, and removed by the next sweep.
CREATE TABLE task_images (
    org_id     bigint      NOT NULL,
    id         uuid        NOT NULL,  -- the Idempotency-Key of its upload
    parent_id  uuid        NOT NULL,  -- the task
    object     uuid        NOT NULL,  -- the object's name is <org_id>/<object>; each upload has its own
    media      text        NOT NULL,  -- its Content-Type
    bytes      bigint      NOT NULL CHECK (bytes > 0),
    sha256     bytea       NOT NULL CHECK (octet_length(sha256) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id),
    FOREIGN KEY (org_id, parent_id) REFERENCES tasks (org_id, id) ON DELETE CASCADE
);
-- Serves "the images of a task, in order", and the cascade.
CREATE INDEX task_images_by_parent ON task_images (org_id, parent_id, id);
-- Serves the sweep's "is this object named by a row".
CREATE UNIQUE INDEX task_images_by_object ON task_images (org_id, object);

GRANT SELECT, INSERT, DELETE ON task_images TO app_rw;
GRANT SELECT ON task_images TO app_ro;
