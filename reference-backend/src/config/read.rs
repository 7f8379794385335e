//! Reading one section to its end: a value that cannot be read is reported, replaced by its default, and the section
//! read again, so that one problem does not hide the next.

use std::collections::BTreeMap;

use figment::Figment;
use figment::error::Kind;
use figment::value::Value;
use serde::de::DeserializeOwned;

/// No section has as many settings: whoever comes here runs in a circle.
const PROBLEMS_MAX: usize = 1_000;

/// The section, with defaults in place of what `problems` then holds. None where even the defaults cannot be read.
pub(super) fn section<T: DeserializeOwned>(
    layers: &Figment,
    defaults: &Figment,
    name: &str,
    problems: &mut Vec<String>,
) -> Option<T> {
    let Ok(mut value) = layers.find_value(name) else {
        problems.push(format!("[{name}]: missing"));
        return None;
    };
    let mut dropped = BTreeMap::new();
    for _ in 0..PROBLEMS_MAX {
        let error = match value.deserialize::<T>() {
            Ok(section) => return Some(section),
            Err(error) => error,
        };
        problems.push(explain(layers, name, &value, &error, &dropped));
        let default = defaults.find_value(name).ok();
        if !replace(&mut value, &error.path, default.as_ref(), "", &mut dropped) {
            return None;
        }
    }
    None
}

/// `server.listen (file backend.toml): invalid socket address syntax`.
fn explain(
    layers: &Figment,
    section: &str,
    value: &Value,
    error: &figment::Error,
    dropped: &BTreeMap<String, usize>,
) -> String {
    let mut at = Some(value);
    let (mut tag, mut place, mut within) = (value.tag(), section.to_owned(), String::new());
    for step in &error.path {
        let shown = match dropped.get(&within) {
            Some(before) => step.parse().map_or(step.clone(), |n: usize| (n + before).to_string()),
            None => step.clone(),
        };
        place = format!("{place}.{shown}");
        within = format!("{within}.{step}");
        at = at.and_then(|value| child(value, step));
        tag = at.map_or(tag, Value::tag);
    }
    let origin = layers.get_metadata(tag).map(|found| format!(" ({})", found.name));
    let what = match &error.kind {
        Kind::UnknownField(_, known) => format!("no such setting; known are {}", known.join(", ")),
        kind => kind.to_string(),
    };
    format!("{place}{}: {what}", origin.unwrap_or_default())
}

fn child<'v>(value: &'v Value, step: &str) -> Option<&'v Value> {
    match value {
        Value::Dict(_, entries) => entries.get(step),
        Value::Array(_, items) => items.get(step.parse::<usize>().ok()?),
        _ => None,
    }
}

/// Puts the default in the place of what is at `path`; what has none is taken out, an element of a list whole. `dropped`
/// counts those per list, because the elements after them move up. False where there is nothing to put.
fn replace(
    value: &mut Value,
    path: &[String],
    default: Option<&Value>,
    within: &str,
    dropped: &mut BTreeMap<String, usize>,
) -> bool {
    let Some((step, rest)) = path.split_first() else {
        let sound = default.filter(|default| *default != value);
        return sound.cloned().map(|sound| *value = sound).is_some();
    };
    match value {
        Value::Array(_, items) => {
            let found = step.parse::<usize>().ok().filter(|index| *index < items.len());
            found
                .map(|index| {
                    items.remove(index);
                    *dropped.entry(within.to_owned()).or_default() += 1;
                })
                .is_some()
        }
        Value::Dict(_, entries) => {
            let default = default.and_then(|default| child(default, step));
            let within = format!("{within}.{step}");
            let Some(inner) = entries.get_mut(step) else { return false };
            // Where neither it nor a part of it has a default, it goes.
            replace(inner, rest, default, &within, dropped) || entries.remove(step).is_some()
        }
        _ => default.cloned().map(|sound| *value = sound).is_some(),
    }
}
