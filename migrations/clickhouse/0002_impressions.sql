-- Where each impression stands now, with its cut: the last increment with a plus. A view, not a table: the facts have
-- it all, and a ReplacingMergeTree of its own doubled storage and cost 3 us of CPU per commit, of a budget of 15.
-- The whole cut is in the key, although the id alone would do: so filters on it reach the facts before anything is
-- grouped. Ask for it by time, campaign or another part of the cut, or in spans of time (2 us a row).
CREATE VIEW IF NOT EXISTS impressions_${generation} AS
SELECT
    impression_id, event_at, campaign, advertiser, creative, placement, publisher, surface, format, region, currency,
    billing_event, counting_method, evidence, sdk, country, auto_refresh, data_set,
    tupleElement(last, 1) AS position,
    tupleElement(last, 2) AS kind,
    tupleElement(last, 3) AS verdict,
    tupleElement(last, 4) AS reason,
    tupleElement(last, 5) AS reason_class,
    tupleElement(last, 6) AS viewability,
    tupleElement(last, 7) AS expired,
    tupleElement(last, 8) AS gross,
    tupleElement(last, 9) AS billable_micros,
    tupleElement(last, 10) AS reserved_micros,
    tupleElement(last, 11) AS decided_at
FROM
(
    SELECT
        impression_id, event_at, campaign, advertiser, creative, placement, publisher, surface, format, region,
        currency, billing_event, counting_method, evidence, sdk, country, auto_refresh, data_set,
        argMax(
            tuple(
                position, kind, verdict, reason, reason_class, viewability, expired, gross, billable_micros,
                reserved_micros, decided_at
            ),
            (position, ordinal)
        ) AS last
    FROM facts_${generation}
    WHERE sign = 1
    GROUP BY
        impression_id, event_at, campaign, advertiser, creative, placement, publisher, surface, format, region,
        currency, billing_event, counting_method, evidence, sdk, country, auto_refresh, data_set
);

-- What was answered without touching an impression: refused renders per reason, and views that moved nothing.
CREATE TABLE IF NOT EXISTS answers_${generation}
(
    position UInt64,
    ordinal UInt16,
    counted_at DateTime64(3, 'UTC'),
    reason Enum8(
        '' = 0, 'TOKEN_INVALID' = 1, 'TOKEN_EXPIRED' = 2, 'REGION_MISDIRECTED' = 3, 'EVENT_ID_REUSED' = 4
    ),
    refused Int64,
    unmoved Int64
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(counted_at)
ORDER BY (counted_at, position, ordinal)
SETTINGS ${table_settings};
