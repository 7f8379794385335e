-- A summary lists 200 categories of a side, the first by their bytes, and says if there are more: doc may have
-- "more_revenue_categories": true and "more_expense_categories": true. What grew beyond that before is cut here; the epoch
-- tells whoever holds it in memory.
UPDATE projection_checkpoints SET epoch = epoch + 1
WHERE projection = 'finance-summary' AND EXISTS (
    SELECT FROM finance_summaries
    WHERE jsonb_array_length(doc -> 'revenue_categories') > 200 OR jsonb_array_length(doc -> 'expense_categories') > 200);

UPDATE finance_summaries SET doc = jsonb_strip_nulls(jsonb_build_object(
    'revenue_categories', (
        SELECT coalesce(jsonb_agg(name ORDER BY name COLLATE "C") FILTER (WHERE place <= 200), '[]')
        FROM (SELECT name, row_number() OVER (ORDER BY name COLLATE "C") AS place
              FROM jsonb_array_elements_text(doc -> 'revenue_categories') AS name) AS r),
    'more_revenue_categories', CASE WHEN jsonb_array_length(doc -> 'revenue_categories') > 200 THEN true END,
    'expense_categories', (
        SELECT coalesce(jsonb_agg(name ORDER BY name COLLATE "C") FILTER (WHERE place <= 200), '[]')
        FROM (SELECT name, row_number() OVER (ORDER BY name COLLATE "C") AS place
              FROM jsonb_array_elements_text(doc -> 'expense_categories') AS name) AS e),
    'more_expense_categories', CASE WHEN jsonb_array_length(doc -> 'expense_categories') > 200 THEN true END))
WHERE jsonb_array_length(doc -> 'revenue_categories') > 200 OR jsonb_array_length(doc -> 'expense_categories') > 200;
