-- One row for each run of a scheduled job. The primary key is what makes each instant run once, however many processes
-- there are: who inserts the row has the run.
CREATE TABLE job_runs (
    job          text        NOT NULL,
    scheduled_at timestamptz NOT NULL,  -- the instant of the schedule; of a run by hand, when it was asked for
    process      text        NOT NULL,  -- who has the run
    by_hand      boolean     NOT NULL DEFAULT false,
    attempts     integer     NOT NULL DEFAULT 1,
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at  timestamptz,           -- null while it runs, and of a run that died
    outcome      text CHECK (outcome IN ('done', 'failed')),
    detail       text,                  -- what it did, or why it failed
    PRIMARY KEY (job, scheduled_at),
    CHECK ((finished_at IS NULL) = (outcome IS NULL))
);

-- Never two runs of one job at a time, whoever wants to run it.
CREATE UNIQUE INDEX job_runs_one_at_a_time ON job_runs (job) WHERE finished_at IS NULL;

GRANT USAGE ON SCHEMA public TO app_rw, app_ro;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app_rw;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO app_ro;
