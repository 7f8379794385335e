//! Figures as people read them, by their unit.

use super::verdict::Unit;
use crate::units::ByteSize;
use crate::units::show::{duration_us, per_second, percent, significant};

/// A value with its unit, to the digits that matter: `812 ms`, `0.42 %`, `5,012/s`.
pub fn show(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Us => duration_us(value),
        Unit::Ms => duration_us(value * 1e3),
        Unit::Ratio => percent(value),
        Unit::PerSecond => per_second(value),
        Unit::Count => significant(value),
        Unit::Bytes => ByteSize::new(value.max(0.0).round() as u64).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_show_the_digits_that_matter() {
        for (value, unit, expected) in [
            (812_000.0, Unit::Us, "812 ms"),
            (1_500.0, Unit::Ms, "1.5 s"),
            (0.004_212_345, Unit::Ratio, "0.42 %"),
            (0.0, Unit::Ratio, "0 %"),
            (5_012.34, Unit::PerSecond, "5,012/s"),
            (123_456.7, Unit::PerSecond, "123,457/s"),
            (1.0234, Unit::Count, "1.02"),
            (2048.0, Unit::Bytes, "2 KiB"),
        ] {
            assert_eq!(show(value, unit), expected);
        }
    }
}
