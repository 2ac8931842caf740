-- What was served, and what of it was heard of, by the minute of serving (the mint time in the impression's id), side by
-- side in one table, so that completeness is one sum. Delivery's reports are inserted; renders come out of the facts.
-- Only first decisions count (kind = deduped): `heard` is the first render of any kind, `rendered` the first that proves
-- that it began. A correction later changes neither, because it is about what counts, not about what was shown.
-- The minute stands before the campaign: monitors and pacing ask for the last minutes of all, or of one, campaign.
ALTER TABLE facts_${generation} ADD COLUMN IF NOT EXISTS price_micros Int64;

CREATE TABLE IF NOT EXISTS served_minute_${generation}
(
    minute DateTime('UTC'),
    data_set Enum8('live' = 1, 'replay' = 2),
    campaign String,
    currency String,
    surface Enum8('feed' = 1, 'instagram' = 2, 'reels' = 3, 'audience_network' = 4, 'pixel' = 5),
    format Enum8('display' = 1, 'video' = 2),
    sdk String,
    served Int64,
    served_micros Int64,
    heard Int64,
    rendered Int64,
    rendered_micros Int64,
    double_fires Int64,
    duplicate_renders Int64
)
ENGINE = SummingMergeTree((
    served, served_micros, heard, rendered, rendered_micros, double_fires, duplicate_renders
))
PARTITION BY toYYYYMM(minute)
ORDER BY (data_set, minute, campaign, currency, surface, format, sdk)
SETTINGS ${table_settings};

CREATE MATERIALIZED VIEW IF NOT EXISTS facts_${generation}_to_served_minute TO served_minute_${generation} AS
SELECT
    toStartOfMinute(toDateTime(UUIDv7ToDateTime(impression_id), 'UTC')) AS minute,
    data_set, campaign, currency, surface, format, sdk,
    0 AS served,
    0 AS served_micros,
    sum(sign) AS heard,
    sumIf(sign, reason_class != 'not_counted') AS rendered,
    sumIf(sign * price_micros, reason_class != 'not_counted') AS rendered_micros,
    sumIf(sign, reason = 'DOUBLE_FIRE') AS double_fires,
    sum(f.duplicate_renders) AS duplicate_renders
FROM facts_${generation} AS f
WHERE kind = 'deduped'
GROUP BY minute, data_set, campaign, currency, surface, format, sdk;

-- One row per report of what was served: where a source's numbers of a minute have a hole, a report is missing.
CREATE TABLE IF NOT EXISTS serve_reports_${generation}
(
    position UInt64,
    received_at DateTime64(3, 'UTC'),
    minute DateTime('UTC'),
    source String,
    sequence UInt16,
    kinds UInt32,
    served Int64,
    served_micros Int64
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (minute, source, sequence)
SETTINGS ${table_settings};

-- What the numbers that SDKs give their events say of lost ones, by the minute in which they were judged. Signed: what
-- came after all is taken back from `missing` in the minute in which it was missed. No session stands here.
CREATE TABLE IF NOT EXISTS sequences_${generation}
(
    position UInt64,
    item UInt16,
    counted_at DateTime64(3, 'UTC'),
    minute DateTime('UTC'),
    surface Enum8('feed' = 1, 'instagram' = 2, 'reels' = 3, 'audience_network' = 4, 'pixel' = 5),
    sdk String,
    numbers Int64,
    missing Int64,
    filled Int64,
    repeats Int64,
    restarts Int64
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (minute, surface, sdk, position, item)
SETTINGS ${table_settings};
