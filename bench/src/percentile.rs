//! Medians and quantiles of small sets of figures.

/// The value below which the share `quantile` (0..=1) of `values` lies. None of none.
pub(crate) fn quantile<T: Copy + PartialOrd>(values: &[T], quantile: f64) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).expect("figures are numbers"));
    let last = sorted.len().checked_sub(1)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded, within 0..=last")]
    let index = (last as f64 * quantile).round() as usize;
    sorted.get(index).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_the_ends_are_the_ends() {
        let values = [5.0, 1.0, 3.0];
        assert_eq!([0.0, 0.5, 1.0].map(|share| quantile(&values, share)), [Some(1.0), Some(3.0), Some(5.0)]);
        assert_eq!(quantile::<f64>(&[], 0.5), None);
    }
}
