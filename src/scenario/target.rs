//! What may stand in `target`: the bundled backend, or any HTTP service with its signals.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::DeValue;

use super::address::{check_address, shown_url, trim_url};
use super::model::{ChannelManager, HttpTarget, ReferenceTarget, SignalSource, Signals, Target};
use super::reader::{Item, TableReader, read_all};
use super::selector::Selector;
use crate::units::{Micros, Ratio};

/// More processes than anybody wants on one machine.
const PROCESSES_MAX: usize = 8;
/// A channel manager that is slower than this might as well be gone.
const DELAY_MAX: Micros = Micros::from_secs(60);

/// What `target` is, as its keys tell.
#[derive(Clone, Copy)]
enum Kind {
    Reference,
    Http,
}

pub(super) fn read(item: Item<'_>) -> Option<Target> {
    item.table("target", |table| {
        let words = [("reference", Kind::Reference), ("http", Kind::Http)];
        match table.optional("kind", |item| item.word(&words))? {
            Some(Kind::Reference) => read_reference(table),
            // An address says it all.
            Some(Kind::Http) | None => read_http(table),
        }
    })
}

fn read_reference(table: &mut TableReader<'_>) -> Option<Target> {
    let replicas = table.or("replicas", 2, |item| item.integer(0..=8));
    let port = table.or("port", 0, |item| item.integer(0..=u16::MAX));
    let split = table.or("split", Vec::new(), read_split);
    let channel_manager = table.or("channel_manager", None, read_channel_manager);
    let port = port?;
    Some(Target::Reference(ReferenceTarget {
        replicas: replicas?,
        port: (port != 0).then_some(port),
        split: split?,
        channel_manager: channel_manager?,
    }))
}

/// `true`, `false`, or how it behaves.
fn read_channel_manager(item: Item<'_>) -> Option<Option<ChannelManager>> {
    const EXPECTED: &str =
        "true, false, or a table like { delay = \"200ms\", error_rate = \"1%\" }";
    let obliging = || ChannelManager { delay: Micros::default(), error_rate: Ratio::default() };
    match item.value() {
        DeValue::Boolean(is_there) => Some(is_there.then(obliging)),
        DeValue::Table(_) => item.table("channel_manager", |table| {
            let delay = table.or("delay", Micros::default(), read_delay);
            let error_rate = table.or("error_rate", Ratio::default(), |item| item.quantity());
            Some(Some(ChannelManager { delay: delay?, error_rate: error_rate? }))
        }),
        _ => item.refuse(format_args!("expected {EXPECTED}")),
    }
}

fn read_delay(item: Item<'_>) -> Option<Micros> {
    let delay: Micros = item.quantity()?;
    match delay <= DELAY_MAX && delay.get().is_multiple_of(1_000) {
        true => Some(delay),
        false => item.refuse("expected whole milliseconds, 0ms to 60s, like \"200ms\""),
    }
}

/// `[["revenues", "expenses"], ["cash"]]`: what each further process hosts.
fn read_split(item: Item<'_>) -> Option<Vec<Vec<String>>> {
    const EXPECTED: &str = "lists of services, one for each further process";
    let split: Vec<Vec<String>> =
        read_all(item.list(EXPECTED)?, |process| read_all(process.list(EXPECTED)?, read_service))?;
    match check_split(&split) {
        Ok(()) => Some(split),
        Err(why) => item.refuse(why),
    }
}

/// Why no backend can be split so, if none can.
pub(super) fn check_split(split: &[Vec<String>]) -> Result<(), String> {
    if split.len() > PROCESSES_MAX {
        return Err(format!("expected at most {PROCESSES_MAX} further processes"));
    }
    if split.iter().any(Vec::is_empty) {
        return Err("a process without services has nothing to do".to_owned());
    }
    let mut named = BTreeSet::new();
    match split.iter().flatten().find(|service| !named.insert(*service)) {
        Some(twice) => Err(format!("{twice:?} is named twice")),
        None => Ok(()),
    }
}

fn read_service(item: Item<'_>) -> Option<String> {
    item.text_if(SERVICE, is_service)
}

/// What is expected of a service's name.
pub(super) const SERVICE: &str = "the name of a service, like \"cash\"";

/// Which services there are is for the backend to say.
pub(super) fn is_service(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '-')
}

fn read_http(table: &mut TableReader<'_>) -> Option<Target> {
    let example = r#"url = "http://127.0.0.1:8080", or kind = "reference""#;
    let url = table.required("url", example, |item| Some(trim_url(&read_address(item)?)));
    let metrics = table.optional("metrics", read_address);
    let bearer_token_env = table.optional("bearer_token_env", |item| {
        item.text_if("the name of an environment variable, like \"API_TOKEN\"", is_variable)
    });
    let signals = table.or("signals", BTreeMap::new(), |item| {
        read_all(item.entries("a table of signals by name")?, read_named_signal)
    });
    let (metrics, signals) = (metrics?, signals?);
    if metrics.is_none() && !signals.is_empty() {
        table.refuse("signals need metrics, the address of the Prometheus figures");
    }
    Some(Target::Http(HttpTarget {
        url: url?,
        metrics,
        bearer_token_env: bearer_token_env?,
        signals: Signals { sources: signals },
    }))
}

fn read_address(item: Item<'_>) -> Option<String> {
    let text = item.value().as_str().unwrap_or_default();
    match check_address(text) {
        Ok(()) => Some(text.to_owned()),
        Err(why) if shown_url(text) != text => item.refuse_unseen(why),
        Err(why) => item.refuse(why),
    }
}

fn read_named_signal(item: Item<'_>) -> Option<(String, SignalSource)> {
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let name = item.key();
    if !(name.chars().all(lower) && name.starts_with(|c: char| c.is_ascii_lowercase())) {
        return item.refuse("expected a name in small letters, digits and underscores");
    }
    let source = item.table(format_args!("signal {name}"), read_signal)?;
    Some((name.to_owned(), source))
}

fn read_signal(table: &mut TableReader<'_>) -> Option<SignalSource> {
    let forms = ["ratio", "rate", "gauge", "histogram"].map(|form| (form, table.item(form)));
    let mut present = forms.into_iter().filter_map(|(form, item)| Some((form, item?)));
    let (Some((form, of)), None) = (present.next(), present.next()) else {
        table.refuse("expected one of ratio, rate, gauge and histogram");
        return None;
    };
    match form {
        "ratio" => read_ratio(of),
        "rate" => Some(SignalSource::Rate { of: read_selector(of)? }),
        "gauge" => {
            let scale = table.or("scale", 1.0, read_scale);
            Some(SignalSource::Gauge { of: read_selector(of)?, scale: scale? })
        }
        _ => {
            let quantile = table.required("quantile", "quantile = 0.95", |item| {
                item.number("a number above 0 and below 1, like 0.95", |q| q > 0.0 && q < 1.0)
            });
            let scale = table.or("scale", 1.0, read_scale);
            Some(SignalSource::Histogram {
                of: read_selector(of)?,
                quantile: quantile?,
                scale: scale?,
            })
        }
    }
}

fn read_ratio(item: Item<'_>) -> Option<SignalSource> {
    const EXPECTED: &str = "two selectors, the part and the whole";
    let selectors: Vec<String> = read_all(item.list(EXPECTED)?, read_selector)?;
    match <[String; 2]>::try_from(selectors) {
        Ok([part, of]) => Some(SignalSource::Ratio { part, of }),
        Err(_) => item.refuse(format_args!("expected {EXPECTED}")),
    }
}

fn read_selector(item: Item<'_>) -> Option<String> {
    item.quantity().map(|selector: Selector| selector.to_string())
}

fn read_scale(item: Item<'_>) -> Option<f64> {
    item.number("a number above 0, like 1000 from seconds to ms", |scale| scale > 0.0)
}

fn is_variable(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.chars().all(allowed) && text.starts_with(|c: char| !c.is_ascii_digit())
}
