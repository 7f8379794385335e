//! The latencies of a run as an HdrHistogram interval log (`latency.hlog`), and back.
//!
//! One interval per second of the axis and tag: `record_revenue.response`, `record_revenue.service`, `all.lag`,
//! `all.own_lag`;
//! values in µs. HdrHistogram's own tools read it (log format 1.3, V2 deflated histograms). The archive keeps the
//! distributions of a run nowhere else. Bytes in, bytes out: never opens a file.
//!
//! ```text
//! #[Histogram log format version 1.3]
//! Tag=record_revenue.response,20.000,1.000,41823.000,HISTFAAAA…
//! ```

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{
    IntervalLogHistogram, IntervalLogIterator, IntervalLogWriterBuilder, LogEntry,
    LogIteratorError, Tag,
};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};

use super::distribution::Distribution;
use super::record::LoadRecord;

const HEADER: &str = "[Histogram log format version 1.3]";
const LEGEND: &str =
    "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n";
const LAG_TAG: &str = "all.lag";
const OWN_LAG_TAG: &str = "all.own_lag";

/// Why a latency log could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum HlogError {
    /// The time of the run's start is no RFC 3339 time.
    #[error(
        "write latency log: started_at {0:?} is no RFC 3339 time\nhelp: write it like \"2026-01-31T09:30:00Z\""
    )]
    StartedAt(String),
    /// An operation's name has a character that a tag cannot hold.
    #[error(
        "write latency log: operation {0:?} cannot be a tag\nhelp: use only letters, digits, spaces and hyphens"
    )]
    Name(String),
    /// A histogram could not be encoded.
    #[error("write latency log: encode {tag} at second {second}: {detail}")]
    Encode {
        /// Tag of the interval.
        tag: String,
        /// Second of the axis.
        second: usize,
        /// In hdrhistogram's words.
        detail: String,
    },
    /// The text is no interval log.
    #[error(
        "read latency log: no interval at byte {offset}\nhelp: the file is damaged; restore it or run again"
    )]
    Parse {
        /// Where the part that cannot be read begins.
        offset: usize,
    },
    /// An interval's histogram could not be decoded.
    #[error(
        "read latency log: {tag} at second {second}: {detail}\nhelp: the file is damaged; restore it or run again"
    )]
    Decode {
        /// Tag of the interval.
        tag: String,
        /// Second of the axis.
        second: u64,
        /// What is wrong with it.
        detail: String,
    },
    /// An interval belongs to nothing in the record.
    #[error(
        "read latency log: {tag} at second {second} is not in the record\nhelp: the log belongs to another run; restore the right one"
    )]
    Stranger {
        /// Tag of the interval.
        tag: String,
        /// Second of the axis.
        second: u64,
    },
}

/// Every distribution of `load` as an interval log. `started_at` is the run's start (RFC 3339); intervals count
/// seconds from the first intended arrival. An empty distribution takes no line.
pub fn write_hlog(load: &LoadRecord, started_at: &str) -> Result<Vec<u8>, HlogError> {
    let mut log = header(started_at)?;
    let tags = load.operations.iter().map(|operation| tags_of(&operation.name));
    let tags: Vec<[String; 2]> = tags.collect::<Result<_, _>>()?;
    let mut intervals = Intervals { log: &mut log, serializer: V2DeflateSerializer::new() };
    let operations_end = load.operations.iter().map(|o| o.seconds.len()).max().unwrap_or(0);
    for second in 0..operations_end.max(load.seconds.len()) {
        for (operation, [response, service]) in load.operations.iter().zip(&tags) {
            if let Some(at) = operation.seconds.get(second) {
                intervals.push(response, second, &at.response)?;
                intervals.push(service, second, &at.service)?;
            }
        }
        if let Some(at) = load.seconds.get(second) {
            intervals.push(LAG_TAG, second, &at.lag)?;
            intervals.push(OWN_LAG_TAG, second, &at.own_lag)?;
        }
    }
    Ok(log)
}

/// Puts the distributions of a log back into the record that it was written from, whose other figures are
/// already there. What the log does not mention becomes empty.
pub fn restore_hlog(load: &mut LoadRecord, log: &[u8]) -> Result<(), HlogError> {
    for at in load.operations.iter_mut().flat_map(|operation| &mut operation.seconds) {
        at.response = Distribution::default();
        at.service = Distribution::default();
    }
    for at in &mut load.seconds {
        at.lag = Distribution::default();
        at.own_lag = Distribution::default();
    }
    for entry in IntervalLogIterator::new(log) {
        match entry {
            Ok(LogEntry::Interval(interval)) => restore_interval(load, &interval)?,
            Ok(LogEntry::StartTime(_) | LogEntry::BaseTime(_)) => {}
            Err(LogIteratorError::ParseError { offset }) => {
                return Err(HlogError::Parse { offset });
            }
        }
    }
    Ok(())
}

fn header(started_at: &str) -> Result<Vec<u8>, HlogError> {
    let start: SystemTime = chrono::DateTime::parse_from_rfc3339(started_at)
        .map_err(|_| HlogError::StartedAt(started_at.to_owned()))?
        .into();
    let mut log = Vec::new();
    IntervalLogWriterBuilder::new()
        .add_comment(HEADER)
        .add_comment("Values in microseconds; intervals count seconds of load; by intended time, all.lag and all.own_lag by time of sending")
        .with_start_time(start)
        .with_base_time(start)
        .begin_log_with(&mut log, &mut V2DeflateSerializer::new())
        .expect("writing to memory cannot fail");
    // The legend is no comment: HdrHistogram's readers know it by its first word.
    log.extend_from_slice(LEGEND.as_bytes());
    Ok(log)
}

struct Intervals<'a> {
    log: &'a mut Vec<u8>,
    serializer: V2DeflateSerializer,
}

impl Intervals<'_> {
    fn push(&mut self, tag: &str, second: usize, times: &Distribution) -> Result<(), HlogError> {
        if times.is_empty() {
            return Ok(());
        }
        IntervalLogWriterBuilder::new()
            .begin_log_with(self.log, &mut self.serializer)
            .expect("writing to memory cannot fail")
            .write_histogram(
                &times.to_histogram(),
                Duration::from_secs(second as u64),
                Duration::from_secs(1),
                Tag::new(tag),
            )
            .map_err(|e| HlogError::Encode { tag: tag.to_owned(), second, detail: e.to_string() })
    }
}

/// Response and service tag of an operation. A tag holds no space, a name no underscore: one for the other is
/// reversible.
fn tags_of(name: &str) -> Result<[String; 2], HlogError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-');
    if !name.chars().all(allowed) {
        return Err(HlogError::Name(name.to_owned()));
    }
    let stem = name.replace(' ', "_");
    Ok([format!("{stem}.response"), format!("{stem}.service")])
}

fn restore_interval(
    load: &mut LoadRecord,
    interval: &IntervalLogHistogram<'_>,
) -> Result<(), HlogError> {
    let tag = interval.tag().map_or("", |tag| tag.as_str());
    let second = interval.start_timestamp().as_secs();
    let place = usize::try_from(second).ok().and_then(|at| place_of(load, tag, at));
    let place = place.ok_or_else(|| HlogError::Stranger { tag: tag.to_owned(), second })?;
    *place = decode(interval.encoded_histogram()).map_err(|detail| HlogError::Decode {
        tag: tag.to_owned(),
        second,
        detail,
    })?;
    Ok(())
}

/// Where in the record the interval of a tag at a second belongs.
fn place_of<'a>(
    load: &'a mut LoadRecord,
    tag: &str,
    second: usize,
) -> Option<&'a mut Distribution> {
    match tag {
        LAG_TAG => return load.seconds.get_mut(second).map(|at| &mut at.lag),
        OWN_LAG_TAG => return load.seconds.get_mut(second).map(|at| &mut at.own_lag),
        _ => {}
    }
    let (stem, kind) = tag.rsplit_once('.')?;
    let name = stem.replace('_', " ");
    let operation = load.operations.iter_mut().find(|operation| operation.name == name)?;
    let at = operation.seconds.get_mut(second)?;
    match kind {
        "response" => Some(&mut at.response),
        "service" => Some(&mut at.service),
        _ => None,
    }
}

fn decode(encoded: &str) -> Result<Distribution, String> {
    let bytes = STANDARD.decode(encoded).map_err(|e| e.to_string())?;
    let histogram: Histogram<u64> =
        Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(|e| e.to_string())?;
    Ok(Distribution::from_histogram(&histogram))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{HIGHEST_US, LoadSecond, OperationRecord, OperationSecond, new_histogram};
    use proptest::prelude::*;

    const START: &str = "2026-01-31T09:30:00Z";

    fn distribution(values: &[u64]) -> Distribution {
        let mut histogram = new_histogram();
        values.iter().for_each(|value| histogram.saturating_record(*value));
        Distribution::from_histogram(&histogram)
    }

    fn times() -> impl Strategy<Value = Distribution> {
        let value = prop_oneof![0u64..5_000, 0u64..=HIGHEST_US + 10];
        prop::collection::vec(value, 0..20).prop_map(|values| distribution(&values))
    }

    fn operation() -> impl Strategy<Value = OperationRecord> {
        let second = (times(), times()).prop_map(|(response, service)| OperationSecond {
            response,
            service,
            ..OperationSecond::default()
        });
        prop::collection::vec(second, 0..4).prop_map(|seconds| OperationRecord {
            name: String::new(),
            service: None,
            event: false,
            seconds,
        })
    }

    fn load() -> impl Strategy<Value = LoadRecord> {
        let names = prop::collection::btree_set("[a-zA-Z0-9 -]{1,12}", 0..4);
        let operations = prop::collection::vec(operation(), 4);
        let lags = prop::collection::vec((times(), times()), 0..5);
        (names, operations, lags).prop_map(|(names, operations, lags)| LoadRecord {
            operations: names
                .into_iter()
                .zip(operations)
                .map(|(name, operation)| OperationRecord { name, ..operation })
                .collect(),
            seconds: lags
                .into_iter()
                .map(|(lag, own_lag)| LoadSecond { lag, own_lag, ..LoadSecond::default() })
                .collect(),
            ..LoadRecord::default()
        })
    }

    /// The record as the archive keeps it beside the log, with other times in the places to be filled.
    fn emptied(load: &LoadRecord) -> LoadRecord {
        let mut load = load.clone();
        for at in load.operations.iter_mut().flat_map(|o| &mut o.seconds) {
            at.response = distribution(&[7]);
            at.service = Distribution::default();
        }
        for at in &mut load.seconds {
            at.lag = distribution(&[7]);
            at.own_lag = distribution(&[7]);
        }
        load
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_written_is_read_back_equal(load in load()) {
            let log = write_hlog(&load, START).unwrap();
            let mut back = emptied(&load);
            restore_hlog(&mut back, &log).unwrap();
            prop_assert_eq!(back, load);
        }
    }

    #[test]
    fn a_log_without_the_generators_own_lag_is_read() {
        let with = LoadSecond { lag: distribution(&[9]), ..LoadSecond::default() };
        let load = LoadRecord { seconds: vec![with], ..LoadRecord::default() };
        let log = write_hlog(&load, START).unwrap();
        assert!(!String::from_utf8_lossy(&log).contains("Tag=all.own_lag"));
        let old = r#"{"sent":1,"done":1,"acknowledged":0,"in_flight_max":1,"lag":{"counts":[]}}"#;
        let mut back = LoadRecord {
            seconds: vec![serde_json::from_str(old).unwrap()],
            ..LoadRecord::default()
        };
        restore_hlog(&mut back, &log).unwrap();
        assert_eq!(back.seconds[0].lag, load.seconds[0].lag);
        assert!(back.seconds[0].own_lag.is_empty());
    }

    fn one_second() -> LoadRecord {
        let at = OperationSecond { response: distribution(&[1200]), ..OperationSecond::default() };
        LoadRecord {
            operations: vec![OperationRecord {
                name: "record revenue".to_owned(),
                service: None,
                event: true,
                seconds: vec![OperationSecond::default(), at],
            }],
            ..LoadRecord::default()
        }
    }

    #[test]
    fn the_log_is_one_that_hdrhistograms_tools_know() {
        let log = String::from_utf8(write_hlog(&one_second(), START).unwrap()).unwrap();
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(lines[0], "#[Histogram log format version 1.3]");
        assert_eq!(lines[2], "#[StartTime: 1769851800.000 (seconds since epoch)]");
        assert_eq!(lines[3], "#[BaseTime: 1769851800.000 (seconds since epoch)]");
        assert!(lines[4].starts_with("\"StartTimestamp\","));
        assert!(
            lines[5].starts_with("Tag=record_revenue.response,1.000,1.000,1200.000,HISTFAAA"),
            "{}",
            lines[5]
        );
        assert_eq!(lines.len(), 6, "an empty second takes no line");
    }

    #[test]
    fn a_log_of_another_run_is_refused() {
        let log = write_hlog(&one_second(), START).unwrap();
        let mut other = one_second();
        other.operations[0].name = "record expense".to_owned();
        let error = restore_hlog(&mut other, &log).unwrap_err();
        assert!(
            matches!(&error, HlogError::Stranger { tag, second: 1 } if tag == "record_revenue.response")
        );
        let mut shorter = one_second();
        shorter.operations[0].seconds.pop();
        assert!(matches!(restore_hlog(&mut shorter, &log), Err(HlogError::Stranger { .. })));
    }

    #[test]
    fn a_damaged_log_is_an_error() {
        let log = write_hlog(&one_second(), START).unwrap();
        let cut = &log[..log.len() - 30];
        assert!(matches!(restore_hlog(&mut one_second(), cut), Err(HlogError::Parse { .. })));
        let mut swapped = log.clone();
        let at = swapped.len() - 20;
        swapped[at] = b'!';
        assert!(matches!(restore_hlog(&mut one_second(), &swapped), Err(HlogError::Decode { .. })));
    }

    #[test]
    fn a_name_that_is_no_tag_and_a_start_that_is_no_time_are_refused() {
        let mut load = one_second();
        assert!(matches!(write_hlog(&load, "yesterday"), Err(HlogError::StartedAt(_))));
        load.operations[0].name = "record_revenue".to_owned();
        assert!(matches!(write_hlog(&load, START), Err(HlogError::Name(_))));
    }
}
