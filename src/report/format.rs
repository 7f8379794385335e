//! Numbers as the reports alone show them; the others read as everywhere else.

use crate::gates::Counts;
pub(super) use crate::gates::show as figure;
pub(super) use crate::units::show::{duration_us, grouped, per_second, percent, significant};

/// What stands where a figure should be and none was measured: never a zero, never a blank.
pub(super) const NOT_MEASURED: &str = "not measured";

/// A figure, or that there is none.
pub(super) fn or_not_measured<T>(value: Option<T>, format: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| NOT_MEASURED.to_owned(), format)
}

/// A time given in µs as a bare number of ms, for columns headed `ms`; decimals stand so that columns align.
pub(super) fn millis(us: u64) -> String {
    let ms = us as f64 / 1e3;
    match us {
        0..10_000 => format!("{ms:.2}"),
        10_000..100_000 => format!("{ms:.1}"),
        _ => grouped(ms.round() as u64),
    }
}

/// A share with its sign, for margins: `+12.3 %`, `−4.1 %`.
pub(super) fn signed_percent(fraction: f64) -> String {
    let sign = if fraction < 0.0 { "−" } else { "+" };
    format!("{sign}{} %", significant(fraction.abs() * 100.0))
}

/// What became of the arrivals that were not answered as expected.
pub(super) fn failures(counts: Counts) -> String {
    format!(
        "{} errors, {} time-outs, {} dropped",
        grouped(counts.errors),
        grouped(counts.timeouts),
        grouped(counts.dropped)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_margins_have_a_sign() {
        assert_eq!([millis(840), millis(41_823), millis(3_420_400)], ["0.84", "41.8", "3,420"]);
        assert_eq!(signed_percent(0.123), "+12.3 %");
        assert_eq!(signed_percent(-0.041), "−4.1 %");
    }

    #[test]
    fn a_missing_figure_is_never_a_number() {
        assert_eq!(or_not_measured(None::<f64>, percent), "not measured");
        assert_eq!(or_not_measured(Some(0.5), percent), "50 %");
    }
}
