//! Quantities as people read them: `1.24 ms`, `3.42 s`, `98.2 %`, `5,003/s`. Three significant digits, the same in
//! every sentence and every table; unlike the forms that are stored, these are not read back.

/// A span of time given in µs: `840 µs`, `1.24 ms`, `3.42 s`, `2 min 5 s`.
pub fn duration_us(us: f64) -> String {
    match us.abs() {
        // Just below a unit's thousand, three digits would round up to `1,000 µs`.
        size if size < 999.5 => format!("{} µs", significant(us)),
        size if size < 999.5e3 => format!("{} ms", significant(us / 1e3)),
        size if size < 120e6 => format!("{} s", significant(us / 1e6)),
        _ => {
            let seconds = (us / 1e6).round();
            format!("{} min {} s", (seconds / 60.0).trunc(), (seconds % 60.0).abs())
        }
    }
}

/// A rate per second.
pub fn per_second(rate: f64) -> String {
    format!("{}/s", significant(rate))
}

/// A share: `98.2 %`, `0.04 %`, `99.97 %`. Only the whole is ever shown as 100 %.
pub fn percent(fraction: f64) -> String {
    let percent = fraction * 100.0;
    let text = match percent.abs() {
        p if p > 99.0 && p < 100.0 => format!("{:.2}", percent.signum() * p.min(99.99)),
        p if p < 1.0 => significant_digits(percent, 2),
        p if p >= 1000.0 => significant(percent),
        _ => format!("{percent:.1}"),
    };
    format!("{} %", trimmed(&text))
}

/// Three significant digits; whole numbers from a hundred up, grouped.
pub fn significant(value: f64) -> String {
    trimmed(&significant_digits(value, 3))
}

/// A count: `12,345,678`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn significant_digits(value: f64, digits: i32) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".to_owned() } else { "∞".to_owned() };
    }
    let magnitude = value.abs().log10().floor() as i32 + 1;
    if magnitude >= digits {
        let sign = if value < 0.0 { "−" } else { "" };
        return format!("{sign}{}", grouped(value.abs().round() as u64));
    }
    // Beyond six decimals a figure is zero to any reader.
    format!("{value:.*}", (digits - magnitude).clamp(0, 6) as usize)
}

/// `50.0` → `50`: a limit reads as it was written.
fn trimmed(text: &str) -> String {
    if !text.contains('.') {
        return text.to_owned();
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_carry_the_unit_that_reads_best() {
        for (us, text) in [
            (0.0, "0 µs"),
            (840.0, "840 µs"),
            (999.7, "1 ms"),
            (1_240.0, "1.24 ms"),
            (41_823.0, "41.8 ms"),
            (500_000.0, "500 ms"),
            (999_900.0, "1 s"),
            (3_420_000.0, "3.42 s"),
            (61_000_000.0, "61 s"),
            (125_000_000.0, "2 min 5 s"),
        ] {
            assert_eq!(duration_us(us), text);
        }
    }

    #[test]
    fn only_the_whole_is_a_hundred_percent() {
        for (fraction, text) in [
            (0.0, "0 %"),
            (0.000_4, "0.04 %"),
            (0.005, "0.5 %"),
            (0.85, "85 %"),
            (0.982, "98.2 %"),
            (0.999_7, "99.97 %"),
            (0.999_999, "99.99 %"),
            (1.0, "100 %"),
            (-0.041, "-4.1 %"),
            (31.4, "3,140 %"),
        ] {
            assert_eq!(percent(fraction), text);
        }
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!([grouped(7), grouped(1_234), grouped(1_234_567)], ["7", "1,234", "1,234,567"]);
        assert_eq!(per_second(5_003.4), "5,003/s");
        assert_eq!(significant(0.000_000_1), "0");
    }
}
