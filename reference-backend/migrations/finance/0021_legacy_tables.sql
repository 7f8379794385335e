-- The tables as they were before partitioning, for the switchover and the way back. Empty, and kept equal to the partitioned
-- ones only while a sync is on, because it doubles the cost of every write.
CREATE TABLE revenues (
    LIKE revenues_partitioned INCLUDING CONSTRAINTS,
    PRIMARY KEY (org_id, date, id)
);
CREATE TABLE expenses (
    LIKE expenses_partitioned INCLUDING CONSTRAINTS,
    PRIMARY KEY (org_id, date, id)
);
CREATE TABLE daily_cash_balances (
    LIKE daily_cash_balances_partitioned INCLUDING CONSTRAINTS,
    PRIMARY KEY (org_id, property_id, date)
) WITH (fillfactor = 80);

GRANT SELECT, INSERT, UPDATE, DELETE ON revenues, expenses, daily_cash_balances TO app_rw;
GRANT SELECT ON revenues, expenses, daily_cash_balances TO app_ro, app_maintenance;

-- At most one row: the direction in which writes are copied. The primary key is what forbids both at once.
CREATE TABLE legacy_sync_state (
    one       boolean PRIMARY KEY DEFAULT true CHECK (one),
    direction text NOT NULL CHECK (direction IN ('to_legacy', 'to_partitioned')),
    since     timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT ON legacy_sync_state TO app_rw, app_ro, app_maintenance;

-- The pairs of tables. `keys` finds a row: %1$s stands for the alias of one side, `o` is the other.
CREATE VIEW legacy_pairs AS
    SELECT p.legacy, p.partitioned,
           (SELECT string_agg(quote_ident(k), ', ' ORDER BY n) FROM unnest(p.keys) WITH ORDINALITY AS u (k, n)) AS key_list,
           (SELECT string_agg(format('%%1$s.%I = o.%I', k, k), ' AND ') FROM unnest(p.keys) AS k) AS same,
           (SELECT string_agg(format('%I = EXCLUDED.%I', a.attname, a.attname), ', ' ORDER BY a.attnum)
            FROM pg_attribute a
            WHERE a.attrelid = p.legacy::regclass AND a.attnum > 0 AND NOT a.attisdropped
              AND a.attname <> ALL (p.keys)) AS assignments
    FROM (VALUES ('revenues', 'revenues_partitioned', ARRAY['org_id', 'date', 'id']),
                 ('expenses', 'expenses_partitioned', ARRAY['org_id', 'date', 'id']),
                 ('daily_cash_balances', 'daily_cash_balances_partitioned', ARRAY['org_id', 'property_id', 'date'])
         ) AS p (legacy, partitioned, keys);
GRANT SELECT ON legacy_pairs TO app_maintenance;

-- Does to the other table what a statement did to this one: once per statement, not per row. An upsert calls it twice, for
-- the rows that it inserted and for those that it updated.
CREATE FUNCTION legacy_sync() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    target      text := TG_ARGV[0];
    key_list    text := TG_ARGV[1];
    same        text := TG_ARGV[2];
    assignments text := TG_ARGV[3];
BEGIN
    IF TG_OP = 'DELETE' THEN
        EXECUTE format('DELETE FROM %I t USING old_rows o WHERE %s', target, format(same, 't'));
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        -- A changed key leaves nothing behind, or one entry would live in two months.
        EXECUTE format('DELETE FROM %I t USING old_rows o WHERE %s AND NOT EXISTS (SELECT FROM new_rows n WHERE %s)',
            target, format(same, 't'), format(same, 'n'));
    END IF;
    EXECUTE format('INSERT INTO %I SELECT * FROM new_rows ON CONFLICT (%s) DO UPDATE SET %s', target, key_list, assignments);
    RETURN NULL;
END $$;

-- Emptying one side would take the other with it, unseen.
CREATE FUNCTION legacy_sync_no_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'TRUNCATE of % while it is synchronised', TG_TABLE_NAME
        USING HINT = 'end the sync with legacy_sync_disable(), or use DELETE';
END $$;

-- From now on every write to one side is made on the other too, in the same transaction. What was written before is copied by
-- legacy_backfill. Refused while a sync is on. Writes to a partition by its own name are not seen.
CREATE FUNCTION legacy_sync_enable(wanted text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    pair   record;
    source text;
    target text;
    event  record;
BEGIN
    BEGIN
        INSERT INTO legacy_sync_state (direction) VALUES (wanted);
    EXCEPTION WHEN unique_violation THEN
        RAISE EXCEPTION 'a sync is on already: %', (SELECT direction FROM legacy_sync_state)
            USING HINT = 'end it with legacy_sync_disable()';
    END;
    FOR pair IN SELECT * FROM legacy_pairs LOOP
        IF wanted = 'to_legacy' THEN
            source := pair.partitioned; target := pair.legacy;
        ELSE
            source := pair.legacy; target := pair.partitioned;
        END IF;
        FOR event IN
            SELECT * FROM (VALUES ('INSERT', 'NEW TABLE AS new_rows'),
                                  ('UPDATE', 'OLD TABLE AS old_rows NEW TABLE AS new_rows'),
                                  ('DELETE', 'OLD TABLE AS old_rows')) AS e (name, tables)
        LOOP
            EXECUTE format('CREATE TRIGGER legacy_sync_%s AFTER %s ON %I REFERENCING %s FOR EACH STATEMENT '
                'EXECUTE FUNCTION legacy_sync(%L, %L, %L, %L)',
                lower(event.name), event.name, source, event.tables, target, pair.key_list, pair.same, pair.assignments);
        END LOOP;
        EXECUTE format('CREATE TRIGGER legacy_sync_truncate BEFORE TRUNCATE ON %I FOR EACH STATEMENT '
            'EXECUTE FUNCTION legacy_sync_no_truncate()', source);
    END LOOP;
END $$;

-- Ends the sync, whichever direction it had; nothing if there is none.
CREATE FUNCTION legacy_sync_disable() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    made record;
BEGIN
    FOR made IN SELECT tgrelid::regclass AS source, tgname FROM pg_trigger WHERE tgname LIKE 'legacy\_sync\_%' LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', made.tgname, made.source);
    END LOOP;
    DELETE FROM legacy_sync_state;
END $$;

-- Copies what organisations from_org up to below_org had before the sync began, in its direction; how many rows that were.
-- The source's rows are locked: else one that is deleted meanwhile could come back in the target.
CREATE FUNCTION legacy_backfill(from_org bigint, below_org bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    wanted text := (SELECT direction FROM legacy_sync_state);
    pair   record;
    copied bigint;
    total  bigint := 0;
BEGIN
    IF wanted IS NULL THEN
        RAISE EXCEPTION 'no sync is on: what is written meanwhile would be missing'
            USING HINT = 'begin one with legacy_sync_enable(direction)';
    END IF;
    FOR pair IN SELECT * FROM legacy_pairs LOOP
        EXECUTE format('INSERT INTO %I SELECT * FROM %I WHERE org_id >= $1 AND org_id < $2 FOR UPDATE ON CONFLICT DO NOTHING',
            CASE wanted WHEN 'to_legacy' THEN pair.legacy ELSE pair.partitioned END,
            CASE wanted WHEN 'to_legacy' THEN pair.partitioned ELSE pair.legacy END)
            USING from_org, below_org;
        GET DIAGNOSTICS copied = ROW_COUNT;
        total := total + copied;
    END LOOP;
    RETURN total;
END $$;

-- Rows that only one side has, per table; all zero means equal. One snapshot, so also exact while writes go on.
CREATE FUNCTION legacy_differences() RETURNS TABLE (legacy text, only_legacy bigint, only_partitioned bigint)
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT 'revenues', (SELECT count(*) FROM (TABLE revenues EXCEPT TABLE revenues_partitioned) x),
                       (SELECT count(*) FROM (TABLE revenues_partitioned EXCEPT TABLE revenues) x)
    UNION ALL
    SELECT 'expenses', (SELECT count(*) FROM (TABLE expenses EXCEPT TABLE expenses_partitioned) x),
                       (SELECT count(*) FROM (TABLE expenses_partitioned EXCEPT TABLE expenses) x)
    UNION ALL
    SELECT 'daily_cash_balances',
           (SELECT count(*) FROM (TABLE daily_cash_balances EXCEPT TABLE daily_cash_balances_partitioned) x),
           (SELECT count(*) FROM (TABLE daily_cash_balances_partitioned EXCEPT TABLE daily_cash_balances) x)
$$;

REVOKE EXECUTE ON FUNCTION legacy_sync_enable, legacy_sync_disable, legacy_backfill FROM PUBLIC;
GRANT EXECUTE ON FUNCTION legacy_sync_enable, legacy_sync_disable, legacy_backfill TO app_maintenance;
