-- Copies of guests' papers, kept with check-ins. The copy is an object of the bucket `guest-documents`; a document exists if its
-- row does. It goes with its check-in: the object is then a leftover, and removed by the next sweep.
CREATE TABLE guest_documents (
    org_id     bigint      NOT NULL,
    id         uuid        NOT NULL,  -- the Idempotency-Key of its upload
    parent_id  uuid        NOT NULL,  -- the check-in
    object     uuid        NOT NULL,  -- the object's name is <org_id>/<object>; each upload has its own
    media      text        NOT NULL,  -- its Content-Type
    bytes      bigint      NOT NULL CHECK (bytes > 0),
    sha256     bytea       NOT NULL CHECK (octet_length(sha256) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id),
    FOREIGN KEY (org_id, parent_id) REFERENCES checkins (org_id, id) ON DELETE CASCADE
);
-- Serves "the documents of a check-in, in order", and the cascade.
CREATE INDEX guest_documents_by_parent ON guest_documents (org_id, parent_id, id);
-- Serves the sweep's "is this object named by a row".
CREATE UNIQUE INDEX guest_documents_by_object ON guest_documents (org_id, object);

GRANT SELECT, INSERT, DELETE ON guest_documents TO app_rw;
GRANT SELECT ON guest_documents TO app_ro;
