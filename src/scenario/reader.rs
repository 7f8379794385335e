//! Reads TOML tables key by key. A problem is recorded and reading goes on, so that a user sees all of them at once.
//!
//! Knows nothing of scenarios. What it hands out is `None` where a problem has been recorded.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::nearest::nearest;
use super::problem::Source;

/// A table being read.
pub(super) struct TableReader<'a> {
    source: &'a Source<'a>,
    /// For messages: `[load]`.
    title: String,
    /// Byte at which the table starts.
    at: usize,
    table: &'a DeTable<'a>,
    /// Keys asked for so far: all that may stand here, once the table has been read.
    known: Vec<&'static str>,
}

impl<'a> TableReader<'a> {
    /// Reads the table of a whole file.
    pub(super) fn read_root<T>(
        source: &'a Source<'a>,
        root: &'a DeTable<'a>,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<T> {
        Self::read(source, "the scenario".to_owned(), 0, root, read)
    }

    /// Runs a reading function, then refuses the keys that it did not ask for.
    fn read<T>(
        source: &'a Source<'a>,
        title: String,
        at: usize,
        table: &'a DeTable<'a>,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<T> {
        let mut reader = Self { source, title, at, table, known: Vec::new() };
        let value = read(&mut reader);
        let complete = reader.refuse_unknown_keys();
        value.filter(|_| complete)
    }

    /// A key that must be there. `example` is shown where it is not.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(Item<'a>) -> Option<T>,
    ) -> Option<T> {
        match self.item(key) {
            Some(item) => read(item),
            None => {
                self.refuse(format_args!("missing key {key:?}; write for example: {example}"));
                None
            }
        }
    }

    /// A key that may be absent: then `default` stands.
    pub(super) fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(Item<'a>) -> Option<T>,
    ) -> Option<T> {
        self.item(key).map_or(Some(default), read)
    }

    /// A key that may be absent: then the inner option is empty.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(Item<'a>) -> Option<T>,
    ) -> Option<Option<T>> {
        self.item(key).map_or(Some(None), |item| read(item).map(Some))
    }

    /// The value of a key, if there; the key is known from now on.
    pub(super) fn item(&mut self, key: &'static str) -> Option<Item<'a>> {
        self.known.push(key);
        let (found, value) = self.table.get_key_value(key)?;
        Some(Item { source: self.source, key: found, value })
    }

    /// Records a problem of the table as a whole.
    pub(super) fn refuse(&self, why: impl Display) {
        self.source.report(self.at, format_args!("{}: {why}", self.title));
    }

    fn refuse_unknown_keys(&self) -> bool {
        let mut complete = true;
        for key in self.table.keys().filter(|key| !self.known.contains(&key.get_ref().as_ref())) {
            complete = false;
            let remedy = match nearest(key.get_ref(), self.known.iter().copied()) {
                Some(known) => format!("did you mean {known:?}?"),
                None => format!("{} may have {}", self.title, self.known.join(", ")),
            };
            let message = format!("unknown key {:?}; {remedy}", key.get_ref());
            self.source.report(key.span().start, message);
        }
        complete
    }
}

/// A value found, with what a message needs to say about it.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    source: &'a Source<'a>,
    key: &'a Spanned<DeString<'a>>,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Item<'a> {
    /// The key that leads to it.
    pub(super) fn key(&self) -> &'a str {
        self.key.get_ref()
    }

    /// The value itself.
    pub(super) fn value(&self) -> &'a DeValue<'a> {
        self.value.get_ref()
    }

    /// The line it is on, counted from 1.
    pub(super) fn line(&self) -> usize {
        self.source.line(self.value.span().start)
    }

    /// Records that this value will not do; always `None`.
    pub(super) fn refuse<T>(&self, why: impl Display) -> Option<T> {
        let span = self.value.span();
        let (key, value) = (self.source.shown(self.key.span()), self.source.shown(span.clone()));
        self.source.report(span.start, format_args!("{key} = {value}: {why}"));
        None
    }

    /// Records that this value will not do, without repeating it, for it may be secret; always `None`.
    pub(super) fn refuse_unseen<T>(&self, why: impl Display) -> Option<T> {
        let key = self.source.shown(self.key.span());
        self.source.report(self.value.span().start, format_args!("{key}: {why}"));
        None
    }

    fn expect<T>(&self, found: Option<T>, expected: impl Display) -> Option<T> {
        found.or_else(|| self.refuse(format_args!("expected {expected}")))
    }

    /// A text that `check` accepts.
    pub(super) fn text_if(
        &self,
        expected: impl Display,
        check: impl FnOnce(&str) -> bool,
    ) -> Option<String> {
        let found = self.value().as_str().filter(|text| check(text)).map(str::to_owned);
        self.expect(found, expected)
    }

    /// One of a few words.
    pub(super) fn word<T: Clone>(&self, words: &[(&str, T)]) -> Option<T> {
        let found = self.value().as_str();
        if let Some((_, value)) = words.iter().find(|(word, _)| Some(*word) == found) {
            return Some(value.clone());
        }
        let known: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        match found.and_then(|found| nearest(found, words.iter().map(|(word, _)| *word))) {
            Some(near) => self.refuse(format_args!("did you mean {near:?}?")),
            None => self.refuse(format_args!("expected {}", known.join(" or "))),
        }
    }

    /// A text in the form of a quantity; its error says what is expected.
    pub(super) fn quantity<T: FromStr<Err: Display>>(&self) -> Option<T> {
        match self.value().as_str().unwrap_or_default().parse() {
            Ok(quantity) => Some(quantity),
            Err(error) => self.refuse(error),
        }
    }

    /// A whole number within a range.
    pub(super) fn integer<T: TryFrom<i64> + PartialOrd + Display>(
        &self,
        range: RangeInclusive<T>,
    ) -> Option<T> {
        let written = self.value().as_integer();
        let number = written.and_then(|n| i64::from_str_radix(n.as_str(), n.radix()).ok());
        let found = number.and_then(|n| T::try_from(n).ok()).filter(|n| range.contains(n));
        let (low, high) = (range.start(), range.end());
        self.expect(found, format_args!("a whole number from {low} to {high}"))
    }

    /// A finite number.
    pub(super) fn number(&self, expected: &str, check: impl FnOnce(f64) -> bool) -> Option<f64> {
        let written = match self.value() {
            DeValue::Integer(n) if n.radix() == 10 => n.as_str().parse().ok(),
            DeValue::Float(n) => n.as_str().parse().ok(),
            _ => None,
        };
        self.expect(written.filter(|n: &f64| n.is_finite() && check(*n)), expected)
    }

    /// `true` or `false`.
    pub(super) fn flag(&self) -> Option<bool> {
        self.expect(self.value().as_bool(), "true or false")
    }

    /// A list; its values are read one by one.
    pub(super) fn list(
        &self,
        expected: &str,
    ) -> Option<impl ExactSizeIterator<Item = Item<'a>> + use<'a>> {
        let values = self.expect(self.value().as_array(), expected)?;
        let Item { source, key, .. } = *self;
        Some(values.iter().map(move |value| Item { source, key, value }))
    }

    /// A table whose keys are free names; their values are read one by one.
    pub(super) fn entries(
        &self,
        expected: &str,
    ) -> Option<impl Iterator<Item = Item<'a>> + use<'a>> {
        let table = self.expect(self.value().as_table(), expected)?;
        let source = self.source;
        Some(table.iter().map(move |(key, value)| Item { source, key, value }))
    }

    /// A table with known keys. `title` stands for it in messages.
    pub(super) fn table<T>(
        &self,
        title: impl Display,
        read: impl FnOnce(&mut TableReader<'a>) -> Option<T>,
    ) -> Option<T> {
        let table = self.expect(self.value().as_table(), "a table")?;
        TableReader::read(self.source, title.to_string(), self.value.span().start, table, read)
    }
}

/// Reads every item, so that the problems of all are recorded; nothing if any has one.
pub(super) fn read_all<'a, T, C: FromIterator<T>>(
    items: impl Iterator<Item = Item<'a>>,
    read: impl FnMut(Item<'a>) -> Option<T>,
) -> Option<C> {
    let read: Vec<Option<T>> = items.map(read).collect();
    read.into_iter().collect()
}
