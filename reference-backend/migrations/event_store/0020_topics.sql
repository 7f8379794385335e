-- Messages that are not events of the store: the log of the topics `realtime-updates` and `balance-corrections`. Publishing
-- takes the topic's row of `topics` until its transaction ends, so positions are 1, 2, 3 … without gaps, in the order of
-- commits. That makes publishers of one topic wait for each other, which is fine at the low rate of these two.
CREATE TABLE topics (
    topic text   PRIMARY KEY,
    head  bigint NOT NULL DEFAULT 0  -- position of the last message
);
INSERT INTO topics (topic) VALUES ('realtime-updates'), ('balance-corrections');

CREATE TABLE topic_messages (
    topic        text        NOT NULL REFERENCES topics,
    position     bigint      NOT NULL,
    org_id       bigint      NOT NULL,
    data         jsonb       NOT NULL,
    published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (topic, position)
);
-- A browser that comes back asks for its organisation's messages since it left.
CREATE INDEX topic_messages_of_org ON topic_messages (topic, org_id, position);

-- How far each subscription is. All messages up to `floor` are settled (handled or set aside), and those in `settled` above
-- it; the others are delivered again by whoever takes the subscription over.
-- The log of finance-events is the event store: one row per shard. The other topics have one row, of shard 0.
CREATE TABLE subscription_cursors (
    subscription text           NOT NULL,
    shard        smallint       NOT NULL,
    floor        bigint         NOT NULL,
    settled      int8multirange NOT NULL DEFAULT '{}',
    written_at   timestamptz    NOT NULL DEFAULT now(),
    PRIMARY KEY (subscription, shard)
) WITH (fillfactor = 50);

-- Only failures become rows. A message that waits for its next delivery: how often it failed, and when it is due.
CREATE TABLE subscription_retries (
    subscription text        NOT NULL,
    shard        smallint    NOT NULL,
    position     bigint      NOT NULL,
    attempts     integer     NOT NULL CHECK (attempts > 0),
    due_at       timestamptz NOT NULL,
    reason       text        NOT NULL,
    PRIMARY KEY (subscription, shard, position)
) WITH (fillfactor = 50);

-- A message that a subscription gave up after its last attempt. It is kept until it is replayed with success, or skipped by
-- hand. `data` is null for events: the store keeps them.
CREATE TABLE dead_letters (
    id               bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription     text        NOT NULL,
    topic            text        NOT NULL,
    shard            smallint    NOT NULL,
    position         bigint      NOT NULL,
    org_id           bigint      NOT NULL,
    data             jsonb,
    published_at     timestamptz NOT NULL,
    attempts         integer     NOT NULL,
    reason           text        NOT NULL,
    set_aside_at     timestamptz NOT NULL DEFAULT now(),
    replay_asked_at  timestamptz,  -- someone wants it delivered again
    noticed_at       timestamptz,  -- the organisation has been told
    UNIQUE (subscription, shard, position)
);
CREATE INDEX dead_letters_to_replay ON dead_letters (subscription, id) WHERE replay_asked_at IS NOT NULL;
CREATE INDEX dead_letters_to_notice ON dead_letters (id) WHERE noticed_at IS NULL;

GRANT SELECT, UPDATE ON topics TO app_rw;
GRANT SELECT, INSERT, DELETE ON topic_messages TO app_rw;
GRANT SELECT, INSERT, UPDATE, DELETE ON subscription_cursors, subscription_retries, dead_letters TO app_rw;
GRANT SELECT ON topics, topic_messages, subscription_cursors, subscription_retries, dead_letters TO app_ro;
