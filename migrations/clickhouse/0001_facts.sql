-- Signed increments, one row per change of an impression's standing; ${generation} is the generation of the tables.
-- Closed lists are Enum8 and other texts plain String: with LowCardinality, inserting and merging cost twice the CPU
-- (see benchmarks/projector.py). Months are the partitions, so that a block of late corrections makes few parts.
-- Each block is inserted with a token; the windows make a repeated token count once, here and in every target of a view.
CREATE TABLE IF NOT EXISTS facts_${generation}
(
    position UInt64,
    ordinal UInt16,
    impression_id UUID,
    kind Enum8('deduped' = 1, 'viewed' = 2, 'reconciled' = 3),
    sign Int8,
    event_at DateTime64(3, 'UTC'),
    campaign String,
    advertiser String,
    creative String,
    placement String,
    publisher String,
    surface Enum8('feed' = 1, 'instagram' = 2, 'reels' = 3, 'audience_network' = 4, 'pixel' = 5),
    format Enum8('display' = 1, 'video' = 2),
    region String,
    currency String,
    billing_event Enum8('impression' = 1, 'viewable' = 2),
    counting_method Enum8('on_screen' = 1, 'begin_to_render' = 2, 'delivery' = 3),
    evidence Enum8('on_screen_at' = 1, 'omid' = 2, 'request' = 3, 'none' = 4),
    sdk String,
    country String,
    auto_refresh Bool,
    data_set Enum8('live' = 1, 'replay' = 2),
    verdict Enum8('valid' = 1, 'dropped' = 2, 'duplicate' = 3, 'uncertain' = 4),
    reason Enum8(
        '' = 0,
        'TOKEN_INVALID' = 1, 'TOKEN_EXPIRED' = 2, 'REGION_MISDIRECTED' = 3, 'EVENT_ID_REUSED' = 4,
        'PREFETCHED' = 5, 'NOT_BEGUN' = 6,
        'OUTSIDE_FLIGHT' = 7, 'BUDGET_EXHAUSTED' = 8, 'CAMPAIGN_UNKNOWN' = 9,
        'DUPLICATE_RENDER' = 10, 'DUPLICATE_CONFLICT' = 11, 'DOUBLE_FIRE' = 12,
        'AGENT_DECLARED_BOT' = 13, 'AGENT_NOT_A_BROWSER' = 14, 'NETWORK_DATA_CENTRE' = 15, 'AREA_INVISIBLE' = 16,
        'DEVICE_NOT_RENDERING' = 17, 'RATE_ABUSIVE' = 18,
        'RISK_HIGH' = 19, 'VIEW_FALSIFIED' = 20, 'STACKED' = 21,
        'OMID_UNPROVEN' = 22, 'EVIDENCE_INCOMPLETE' = 23, 'REGISTRY_BEHIND' = 24, 'RISK_GREY' = 25,
        'CLOCK_SKEWED' = 26, 'LATE' = 27, 'DEGRADED' = 28
    ),
    reason_class Enum8(
        '' = 0, 'request' = 1, 'not_counted' = 2, 'policy' = 3, 'duplicate' = 4, 'givt' = 5, 'sivt' = 6,
        'undecided' = 7
    ),
    viewability String,
    expired Bool,
    gross Int8,
    duplicate_renders Int32,
    billable_micros Int64,
    reserved_micros Int64,
    decided_at DateTime64(3, 'UTC'),
    impressions Int64 ALIAS sign,
    net Int64 ALIAS if(reason_class = '', sign, 0),
    givt Int64 ALIAS if(reason_class = 'givt', sign, 0),
    sivt Int64 ALIAS if(reason_class = 'sivt', sign, 0),
    undecided Int64 ALIAS if(reason_class = 'undecided', sign, 0),
    duplicates Int64 ALIAS if(reason_class = 'duplicate', sign, 0),
    not_counted Int64 ALIAS if(reason_class = 'not_counted', sign, 0),
    policy Int64 ALIAS if(reason_class = 'policy', sign, 0)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(event_at)
ORDER BY (toStartOfHour(event_at), campaign, impression_id, position, ordinal)
SETTINGS ${table_settings};

CREATE TABLE IF NOT EXISTS report_hour_${generation}
(
    hour DateTime('UTC'),
    campaign String,
    advertiser String,
    creative String,
    placement String,
    publisher String,
    surface Enum8('feed' = 1, 'instagram' = 2, 'reels' = 3, 'audience_network' = 4, 'pixel' = 5),
    format Enum8('display' = 1, 'video' = 2),
    region String,
    currency String,
    billing_event Enum8('impression' = 1, 'viewable' = 2),
    counting_method Enum8('on_screen' = 1, 'begin_to_render' = 2, 'delivery' = 3),
    evidence Enum8('on_screen_at' = 1, 'omid' = 2, 'request' = 3, 'none' = 4),
    sdk String,
    country String,
    auto_refresh Bool,
    data_set Enum8('live' = 1, 'replay' = 2),
    verdict Enum8('valid' = 1, 'dropped' = 2, 'duplicate' = 3, 'uncertain' = 4),
    reason Enum8(
        '' = 0,
        'TOKEN_INVALID' = 1, 'TOKEN_EXPIRED' = 2, 'REGION_MISDIRECTED' = 3, 'EVENT_ID_REUSED' = 4,
        'PREFETCHED' = 5, 'NOT_BEGUN' = 6,
        'OUTSIDE_FLIGHT' = 7, 'BUDGET_EXHAUSTED' = 8, 'CAMPAIGN_UNKNOWN' = 9,
        'DUPLICATE_RENDER' = 10, 'DUPLICATE_CONFLICT' = 11, 'DOUBLE_FIRE' = 12,
        'AGENT_DECLARED_BOT' = 13, 'AGENT_NOT_A_BROWSER' = 14, 'NETWORK_DATA_CENTRE' = 15, 'AREA_INVISIBLE' = 16,
        'DEVICE_NOT_RENDERING' = 17, 'RATE_ABUSIVE' = 18,
        'RISK_HIGH' = 19, 'VIEW_FALSIFIED' = 20, 'STACKED' = 21,
        'OMID_UNPROVEN' = 22, 'EVIDENCE_INCOMPLETE' = 23, 'REGISTRY_BEHIND' = 24, 'RISK_GREY' = 25,
        'CLOCK_SKEWED' = 26, 'LATE' = 27, 'DEGRADED' = 28
    ),
    reason_class Enum8(
        '' = 0, 'request' = 1, 'not_counted' = 2, 'policy' = 3, 'duplicate' = 4, 'givt' = 5, 'sivt' = 6,
        'undecided' = 7
    ),
    viewability String,
    expired Bool,
    impressions Int64,
    gross Int64,
    duplicate_renders Int64,
    billable_micros Int64,
    reserved_micros Int64,
    net Int64 ALIAS if(reason_class = '', impressions, 0),
    givt Int64 ALIAS if(reason_class = 'givt', impressions, 0),
    sivt Int64 ALIAS if(reason_class = 'sivt', impressions, 0),
    undecided Int64 ALIAS if(reason_class = 'undecided', impressions, 0),
    duplicates Int64 ALIAS if(reason_class = 'duplicate', impressions, 0),
    not_counted Int64 ALIAS if(reason_class = 'not_counted', impressions, 0),
    policy Int64 ALIAS if(reason_class = 'policy', impressions, 0)
)
ENGINE = SummingMergeTree((impressions, gross, duplicate_renders, billable_micros, reserved_micros))
PARTITION BY toYYYYMM(hour)
PRIMARY KEY (data_set, campaign, hour)
ORDER BY (
    data_set, campaign, hour, creative, placement, publisher, surface, format, sdk, country, verdict, reason,
    reason_class, viewability, expired, advertiser, region, currency, billing_event, counting_method, evidence,
    auto_refresh
)
SETTINGS ${table_settings};

CREATE MATERIALIZED VIEW IF NOT EXISTS facts_${generation}_to_report_hour TO report_hour_${generation} AS
SELECT
    toStartOfHour(event_at) AS hour, campaign, advertiser, creative, placement, publisher, surface, format, region,
    currency, billing_event, counting_method, evidence, sdk, country, auto_refresh, data_set, verdict, reason,
    reason_class, viewability, expired, sign AS impressions, gross, duplicate_renders, billable_micros,
    reserved_micros
FROM facts_${generation};

CREATE TABLE IF NOT EXISTS pacing_minute_${generation}
(
    minute DateTime('UTC'),
    data_set Enum8('live' = 1, 'replay' = 2),
    campaign String,
    currency String,
    gross Int64,
    net Int64,
    undecided Int64,
    billable_micros Int64,
    reserved_micros Int64,
    uncertain_micros Int64
)
ENGINE = SummingMergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (data_set, campaign, currency, minute)
SETTINGS ${table_settings};

CREATE MATERIALIZED VIEW IF NOT EXISTS facts_${generation}_to_pacing_minute TO pacing_minute_${generation} AS
SELECT
    toStartOfMinute(event_at) AS minute,
    data_set,
    campaign,
    currency,
    sum(f.gross) AS gross,
    sumIf(sign, reason_class = '') AS net,
    sumIf(sign, reason_class = 'undecided') AS undecided,
    sum(f.billable_micros) AS billable_micros,
    sum(f.reserved_micros) AS reserved_micros,
    sumIf(f.reserved_micros, reason_class = 'undecided') AS uncertain_micros
FROM facts_${generation} AS f
GROUP BY data_set, campaign, currency, minute;
