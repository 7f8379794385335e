//! Figures as people read them: `812ms`, `0.42%`, `5012/s`.

use super::verdict::Unit;
use crate::units::{ByteSize, Micros};

/// A value with its unit, to the digits that matter.
pub fn show(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Us => Micros::new(value.round() as u64).to_string(),
        Unit::Ms => Micros::new((value * 1e3).round() as u64).to_string(),
        Unit::Ratio => format!("{}%", digits(value * 100.0)),
        Unit::PerSecond => format!("{}/s", digits(value)),
        Unit::Count => digits(value).to_string(),
        Unit::Bytes => ByteSize::new(value.round() as u64).to_string(),
    }
}

/// Four significant digits; whole numbers in full.
fn digits(value: f64) -> f64 {
    if value == 0.0 || value.abs() >= 1e4 {
        return value.round();
    }
    let scale = 10f64.powi(3 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_show_the_digits_that_matter() {
        for (value, unit, expected) in [
            (812_000.0, Unit::Us, "812ms"),
            (1_500.0, Unit::Ms, "1.5s"),
            (0.004_212_345, Unit::Ratio, "0.4212%"),
            (0.0, Unit::Ratio, "0%"),
            (5_012.34, Unit::PerSecond, "5012/s"),
            (123_456.7, Unit::PerSecond, "123457/s"),
            (1.0234, Unit::Count, "1.023"),
            (2048.0, Unit::Bytes, "2 KiB"),
        ] {
            assert_eq!(show(value, unit), expected);
        }
    }
}
