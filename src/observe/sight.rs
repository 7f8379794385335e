//! What has been read so far, for whoever has to judge before the axis is over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::archive::{Series, SeriesKey, Timeline};

type Values = BTreeMap<SeriesKey, Vec<Option<f64>>>;

/// All that the sources of one observation have read. Clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Sight {
    sheets: Arc<Mutex<Vec<Sheet>>>,
}

/// Where one source writes down what it reads.
#[derive(Debug, Clone, Default)]
pub(super) struct Sheet(Arc<Mutex<Values>>);

impl Sight {
    /// Everything read until now, on an axis of so many seconds.
    pub fn timeline(&self, seconds: usize) -> Timeline {
        let sheets = self.sheets.lock().unwrap_or_else(PoisonError::into_inner);
        let read = |sheet: &Sheet| sheet.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut series: Vec<Series> =
            sheets.iter().flat_map(read).map(|(key, values)| Series { key, values }).collect();
        series.sort_by(|a, b| a.key.cmp(&b.key));
        Timeline { seconds, series }
    }

    /// A sheet for one more source.
    pub(super) fn sheet(&self) -> Sheet {
        let sheet = Sheet::default();
        self.sheets.lock().unwrap_or_else(PoisonError::into_inner).push(sheet.clone());
        sheet
    }
}

impl Sheet {
    /// Writes down what was read at one boundary of an axis of so many seconds.
    pub(super) fn write(&self, read: Vec<(SeriesKey, f64)>, second: usize, seconds: usize) {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in read {
            values.entry(key).or_insert_with(|| vec![None; seconds + 1])[second] = Some(value);
        }
    }

    /// What was written down.
    #[cfg(test)]
    pub(super) fn values(&self) -> Values {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
