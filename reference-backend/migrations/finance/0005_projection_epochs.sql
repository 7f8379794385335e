-- Counts how often the rows of a projection were written otherwise than from the next events: built anew, or repaired. Moved in the
-- transaction that writes them, so that who holds such rows in memory, in whichever process, learns that they are of an
-- older epoch.
ALTER TABLE projection_checkpoints ADD COLUMN epoch bigint NOT NULL DEFAULT 0;
