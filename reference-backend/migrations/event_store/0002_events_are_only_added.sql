-- What happened stays: the backend adds events and answers, and never changes or removes one. Also on the partitions, which
-- can be named directly.
REVOKE UPDATE, DELETE ON events, append_dedup FROM app_rw;

DO $$
BEGIN
    FOR part IN 0..7 LOOP
        EXECUTE format('REVOKE UPDATE, DELETE ON events_s%s FROM app_rw', part);
    END LOOP;
END $$;
