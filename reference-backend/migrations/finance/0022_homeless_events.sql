-- Serves the check of the partitions: "events whose day has no partition". Holds those alone, which is none when all is well, so
-- that it costs no write of any other.
CREATE INDEX projection_dead_letters_homeless ON projection_dead_letters (set_aside_at)
    WHERE reason LIKE '%no partition of relation%';
