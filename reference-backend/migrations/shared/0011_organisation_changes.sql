-- The last change of each organisation that was ever changed, so that every process learns that what it holds is older. Written
-- in the transaction of the change.
CREATE TABLE organisation_changes (
    org_id     bigint  PRIMARY KEY,
    version    integer NOT NULL,  -- of the record since
    changed_in xid8    NOT NULL   -- the transaction: "what may be new since my last look" has no gaps by it, as it would by time
) WITH (fillfactor = 80);
-- Serves the look for what is new, which is nothing nearly always.
CREATE INDEX organisation_changes_new ON organisation_changes (changed_in);

GRANT SELECT, INSERT, UPDATE, DELETE ON organisation_changes TO app_rw;
GRANT SELECT ON organisation_changes TO app_ro;
