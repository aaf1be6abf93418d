//! What somebody probably meant who wrote a word that is not among the known ones.

/// The word of `known` that is nearest to `word`, if any is near enough to be a slip.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // Longer words than any known one by half are no slips; this also bounds the work.
    if word.len() > 64 {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace(['_', ' '], "-");
    let word = plain(word);
    let distance = |candidate: &str| {
        let candidate = plain(candidate);
        let slips = strsim::damerau_levenshtein(&word, &candidate);
        // A third of the letters may differ, as in `netwrk`; of short words, one.
        let allowed = (word.chars().count().max(candidate.chars().count()) / 3).max(1);
        let begins = word.len() >= 3 && candidate.starts_with(&word);
        (slips <= allowed || begins).then_some(slips)
    };
    known
        .into_iter()
        .filter_map(|candidate| distance(candidate).map(|slips| (slips, candidate)))
        .min_by_key(|&(slips, _)| slips)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let keys = ["memory", "cpus", "secure-boot", "drag-and-drop", "network"];
        for (word, meant) in [
            ("memroy", "memory"),
            ("cpu", "cpus"),
            ("Secure_Boot", "secure-boot"),
            ("drag_and_drop", "drag-and-drop"),
            ("netwrk", "network"),
            ("mem", "memory"),
        ] {
            assert_eq!(nearest(word, keys), Some(meant), "{word}");
        }
        for word in ["", "x", "colour", "me", &"memory".repeat(100)] {
            assert_eq!(nearest(word, keys), None, "{word}");
        }
    }
}
