-- Snapshots move on while events are added. What an account was before the store's first event of it can then not be had by
-- replaying, so the row keeps it: a projection that is built anew starts there. NULL: the row itself is that state, as loaded.
ALTER TABLE snapshots
    ADD COLUMN baseline_version integer CHECK (baseline_version >= 0),
    ADD COLUMN baseline_state jsonb,
    ADD CONSTRAINT baseline_whole CHECK ((baseline_version IS NULL) = (baseline_state IS NULL)),
    ADD CONSTRAINT baseline_before_state CHECK (baseline_version <= version);
