//! The known name that a mistyped one probably means, for "did you mean". Never picks a name that is unlike.

/// Below this likeness (1 = equal but for capitals, by edits over length, a swap of neighbours being one edit) a name is no typing error.
const LIKENESS_MIN: f64 = 0.5;

/// The known name nearest to the one found, if any is near enough to be meant.
pub fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let found = found.to_lowercase();
    let likeness =
        |name: &str| strsim::normalized_damerau_levenshtein(&found, &name.to_lowercase());
    known
        .into_iter()
        .map(|name| (likeness(name), name))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_like_name_is_suggested() {
        let known = ["warm_up", "measure", "timeout"];
        assert_eq!(nearest("meassure", known), Some("measure"));
        assert_eq!(nearest("warmup", known), Some("warm_up"));
        assert_eq!(nearest("TIMEOUT", known), Some("timeout"));
        assert_eq!(nearest("colour", known), None);
    }
}
