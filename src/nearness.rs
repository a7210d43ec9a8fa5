//! Names that somebody may have meant.

use std::collections::BTreeSet;

/// The most that are suggested.
const MOST: usize = 3;

/// The most letters that differ.
const FARTHEST: usize = 2;

/// Those of `names` that are near `word`, the nearest first, each once.
pub(crate) fn near(word: &str, names: impl Iterator<Item = String>) -> Vec<String> {
    let distance = |name: String| {
        let distance = strsim::damerau_levenshtein(&name, word);
        (distance <= FARTHEST).then_some((distance, name))
    };
    // Those of another length are farther away: the distance need not be known.
    let found: BTreeSet<(usize, String)> = names
        .filter(|name| name.len().abs_diff(word.len()) <= FARTHEST)
        .filter_map(distance)
        .collect();
    let names = found.into_iter().map(|(_, name)| name);
    names.take(MOST).collect()
}
