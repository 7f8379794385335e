-- The days that the night's job was to close for all properties. A day between the first of them and today without a row, or
-- without `closed_at`, is still open somewhere, and made up for by a later night.
CREATE TABLE nights (
    date      date        PRIMARY KEY,
    closed_at timestamptz              -- null until all properties were closed
);

GRANT SELECT, INSERT, UPDATE ON nights TO app_rw;
GRANT SELECT ON nights TO app_ro;
