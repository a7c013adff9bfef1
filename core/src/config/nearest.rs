//! What somebody most likely meant: the nearest of the words that are known.

/// The known word that `written` is most likely a slip of, or `None` if no word is near enough to be offered.
pub(super) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = plain(written);
    known
        .into_iter()
        .filter_map(|word| Some((distance_if_near(&written, &plain(word))?, word)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Longer words than this are not compared: no known word is as long, and the comparison costs the square.
const MAX_LETTERS: usize = 64;

/// Lower case, without the marks that people mix up or leave out.
fn plain(word: &str) -> Vec<char> {
    word.chars()
        .filter(|letter| !matches!(letter, '-' | '_'))
        .flat_map(char::to_lowercase)
        .take(MAX_LETTERS)
        .collect()
}

fn distance_if_near(written: &[char], word: &[char]) -> Option<usize> {
    let shorter = written.len().min(word.len());
    if shorter >= 4 && written[..shorter] == word[..shorter] {
        return Some(1); // an abbreviation, or a word carried on
    }
    let near = match shorter {
        0 => return None,
        1..=3 => 1,
        4..=6 => 2,
        _ => 3,
    };
    Some(distance(written, word)).filter(|distance| *distance <= near)
}

/// Letters to insert, drop, replace or swap with their neighbour (optimal string alignment).
pub(super) fn distance(a: &[char], b: &[char]) -> usize {
    let mut before = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}
