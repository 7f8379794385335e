//! Quantities with their units, made through a check. Imports nothing of ours.
//!
//! People write `"500/s"`, `"90s"`, `"85%"`, `"2 GiB"`; the rest of the program holds these types and cannot
//! hold a bad one. Each type parses what it prints.

pub mod show;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why a text is not a quantity. Reads after "found `x`: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct UnitError {
    /// What a user may write here, with an example.
    pub expected: &'static str,
}

/// Arrivals per second: finite and above zero.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate(f64);

impl Rate {
    const EXPECTED: UnitError =
        UnitError { expected: "a rate above zero, like \"500/s\" or \"90/min\"" };

    /// A rate in arrivals per second; an error unless finite and above zero.
    pub fn per_second(value: f64) -> Result<Self, UnitError> {
        if value.is_finite() && value > 0.0 { Ok(Self(value)) } else { Err(Self::EXPECTED) }
    }

    /// Arrivals per second.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = text.trim().split_once('/').ok_or(Self::EXPECTED)?;
        let seconds = match unit.trim() {
            "s" | "sec" | "second" => 1.0,
            "min" | "m" | "minute" => 60.0,
            "h" | "hour" => 3600.0,
            _ => return Err(Self::EXPECTED),
        };
        let number: f64 = parse_number(number).ok_or(Self::EXPECTED)?;
        Self::per_second(number / seconds)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

/// A share between 0 and 1, written as a percentage or a fraction.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ratio(f64);

impl Ratio {
    const EXPECTED: UnitError =
        UnitError { expected: "a share between 0% and 100%, like \"85%\" or \"0.85\"" };

    /// A ratio from a fraction; an error unless within 0 to 1.
    pub fn new(value: f64) -> Result<Self, UnitError> {
        if (0.0..=1.0).contains(&value) { Ok(Self(value)) } else { Err(Self::EXPECTED) }
    }

    /// The fraction, 0 to 1.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Ratio {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let text = text.trim();
        let value = match text.strip_suffix('%') {
            Some(number) => parse_number(number).map(|n| n / 100.0),
            None => parse_number(text),
        };
        Self::new(value.ok_or(Self::EXPECTED)?)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", round_to(self.0 * 100.0, 6))
    }
}

/// A span of time in whole microseconds, written `"250us"`, `"50ms"`, `"90s"`, `"5min"`, `"2h"`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Micros(u64);

impl Micros {
    const EXPECTED: UnitError =
        UnitError { expected: "a duration, like \"250us\", \"50ms\", \"90s\", \"5min\" or \"2h\"" };

    /// From a count of microseconds.
    pub const fn new(micros: u64) -> Self {
        Self(micros)
    }

    /// From a count of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1_000_000)
    }

    /// The count of microseconds.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// In seconds.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// Whole seconds, rounded up.
    pub const fn secs_ceil(self) -> u64 {
        self.0.div_ceil(1_000_000)
    }
}

impl From<Micros> for Duration {
    fn from(value: Micros) -> Self {
        Duration::from_micros(value.0)
    }
}

impl FromStr for Micros {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split_unit(text).ok_or(Self::EXPECTED)?;
        let scale = match unit {
            "us" | "µs" => 1.0,
            "ms" => 1e3,
            "s" | "sec" => 1e6,
            "m" | "min" => 60e6,
            "h" => 3600e6,
            _ => return Err(Self::EXPECTED),
        };
        let micros = number * scale;
        if !(0.0..=1e15).contains(&micros) {
            return Err(Self::EXPECTED);
        }
        Ok(Self(micros.round() as u64))
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            us if us < 1_000 => write!(f, "{us}us"),
            us if us < 1_000_000 => write!(f, "{}ms", us as f64 / 1e3),
            us => write!(f, "{}s", us as f64 / 1e6),
        }
    }
}

/// A size in bytes, written `"512 MiB"`, `"2GB"` or `"4096"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(u64);

impl ByteSize {
    const EXPECTED: UnitError =
        UnitError { expected: "a size, like \"512 MiB\", \"2GB\" or \"4096\"" };

    /// From a count of bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The count of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split_unit(text).ok_or(Self::EXPECTED)?;
        let scale = match unit {
            "" | "B" => 1.0,
            "kB" | "KB" => 1e3,
            "MB" => 1e6,
            "GB" => 1e9,
            "KiB" => 1024.0,
            "MiB" => 1024.0 * 1024.0,
            "GiB" => 1024.0 * 1024.0 * 1024.0,
            _ => return Err(Self::EXPECTED),
        };
        let bytes = number * scale;
        if !(0.0..=1e18).contains(&bytes) {
            return Err(Self::EXPECTED);
        }
        Ok(Self(bytes.round() as u64))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match UNITS.iter().find(|(_, scale)| self.0 >= *scale) {
            Some((unit, scale)) => {
                write!(f, "{} {unit}", round_to(self.0 as f64 / *scale as f64, 1))
            }
            None => write!(f, "{} B", self.0),
        }
    }
}

/// Text forms for serde: a quantity is stored the way people write it.
macro_rules! stored_as_text {
    ($($kind:ty),*) => {$(
        impl TryFrom<String> for $kind {
            type Error = UnitError;
            fn try_from(text: String) -> Result<Self, UnitError> {
                text.parse()
            }
        }
        impl From<$kind> for String {
            fn from(value: $kind) -> String {
                value.to_string()
            }
        }
    )*};
}
stored_as_text!(Rate, Ratio, Micros, ByteSize);

/// `12_000`, `12.5`: a finite decimal number; underscores may group digits.
pub(crate) fn parse_number(text: &str) -> Option<f64> {
    let digits = text.trim().replace('_', "");
    let plain = digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '+'));
    digits.parse::<f64>().ok().filter(|n| plain && n.is_finite())
}

/// Splits `"90 s"` into `(90.0, "s")`.
fn split_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len());
    Some((parse_number(&text[..end])?, text[end..].trim()))
}

/// Rounds to a number of decimals, so that 0.1 + 0.2 prints as people expect.
fn round_to(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_as_people_write_them() {
        assert_eq!("500/s".parse::<Rate>().unwrap().get(), 500.0);
        assert_eq!("90/min".parse::<Rate>().unwrap().get(), 1.5);
        assert_eq!("1_500 / s".parse::<Rate>().unwrap().get(), 1500.0);
        for bad in ["fast", "-5/s", "0/s", "500", "inf/s", "nan/s", "5/d", "1e999/s"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad} must not be a rate");
        }
    }

    #[test]
    fn ratios_are_shares() {
        assert_eq!("85%".parse::<Ratio>().unwrap(), Ratio::new(0.85).unwrap());
        assert_eq!("0.5%".parse::<Ratio>().unwrap().to_string(), "0.5%");
        for bad in ["101%", "-1%", "1.5", "most"] {
            assert!(bad.parse::<Ratio>().is_err(), "{bad} must not be a ratio");
        }
    }

    #[test]
    fn durations_keep_their_microseconds() {
        assert_eq!("90s".parse::<Micros>().unwrap(), Micros::from_secs(90));
        assert_eq!("1.5ms".parse::<Micros>().unwrap(), Micros::new(1500));
        assert_eq!("2h".parse::<Micros>().unwrap(), Micros::from_secs(7200));
        for bad in ["90", "s", "-1s", "ten seconds", "5 days"] {
            assert!(bad.parse::<Micros>().is_err(), "{bad} must not be a duration");
        }
    }

    #[test]
    fn what_is_printed_parses_back() {
        for micros in [0, 1, 999, 1_000, 1_500, 20_000_000, 90_500_000] {
            let value = Micros::new(micros);
            assert_eq!(value.to_string().parse::<Micros>().unwrap(), value);
        }
        assert_eq!("512 MiB".parse::<ByteSize>().unwrap().to_string(), "512 MiB");
    }
}
