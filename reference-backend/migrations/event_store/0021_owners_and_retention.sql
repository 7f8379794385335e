-- Who owns a subscription: one more with each owner. Owners write rows only under the number that they took, so that one which
-- lost its lease and does not know it yet is refused.
CREATE TABLE subscription_owners (
    subscription text        PRIMARY KEY,
    epoch        bigint      NOT NULL,
    taken_at     timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT, UPDATE ON subscription_owners TO app_rw;
GRANT SELECT ON subscription_owners TO app_ro;

-- Messages up to here were removed: a browser that left before them cannot be told all that it missed.
ALTER TABLE topics ADD COLUMN forgotten bigint NOT NULL DEFAULT 0;
