//! Medians, spread, and the interval of a ratio.
//!
//! Two servers are compared round by round: what one does in a round is divided by what the other
//! does in the same round, so that what slows the whole machine for a while cancels out. The
//! interval is Student's, of the logarithms of those ratios.

/// Two-sided 95 % quantiles of Student's t, for 1 to 30 degrees of freedom.
const T_95: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

/// `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        len if len % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// How far the values lie apart: the largest less the smallest, as a share of the median.
pub fn spread(values: &[f64]) -> Option<f64> {
    let median = median(values)?;
    let largest = values.iter().copied().fold(f64::MIN, f64::max);
    let smallest = values.iter().copied().fold(f64::MAX, f64::min);
    (median != 0.0).then(|| (largest - smallest) / median)
}

/// A ratio of two servers, over paired rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The geometric mean of the rounds' ratios.
    pub mean: f64,
    /// The 95 % interval; `None` with fewer than two rounds.
    pub interval: Option<(f64, f64)>,
    pub rounds: usize,
}

/// Of the pairs, those with a positive finite ratio count. `None` when there is none.
pub fn ratio(pairs: impl IntoIterator<Item = (f64, f64)>) -> Option<Ratio> {
    let logarithms: Vec<f64> = pairs
        .into_iter()
        .map(|(ours, theirs)| (ours / theirs).ln())
        .filter(|logarithm| logarithm.is_finite())
        .collect();
    let rounds = logarithms.len();
    if rounds == 0 {
        return None;
    }
    let mean = logarithms.iter().sum::<f64>() / rounds as f64;
    let interval = (rounds > 1).then(|| {
        let squares = logarithms.iter().map(|logarithm| (logarithm - mean).powi(2));
        let variance = squares.sum::<f64>() / (rounds - 1) as f64;
        let margin = t_95(rounds - 1) * (variance / rounds as f64).sqrt();
        ((mean - margin).exp(), (mean + margin).exp())
    });
    Some(Ratio { mean: mean.exp(), interval, rounds })
}

fn t_95(degrees: usize) -> f64 {
    T_95.get(degrees - 1).copied().unwrap_or(1.96)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_close(value: f64, expected: f64) -> bool {
        (value - expected).abs() < 1e-3
    }

    #[test]
    fn the_median_does_not_mind_order_nor_outliers() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 1e9]), Some(9.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn spread_is_relative_to_the_median() {
        assert_eq!(spread(&[90.0, 100.0, 130.0]), Some(0.4));
        assert_eq!(spread(&[5.0]), Some(0.0));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn what_slows_both_sides_cancels_out() {
        let pairs = [(100.0, 50.0), (20.0, 10.0), (300.0, 150.0)];
        let ratio = ratio(pairs).unwrap();
        let (low, high) = ratio.interval.unwrap();
        assert!([ratio.mean, low, high].iter().all(|&value| is_close(value, 2.0)), "{ratio:?}");
        assert_eq!(ratio.rounds, 3);
    }

    #[test]
    fn the_interval_is_students() {
        // Logarithms 0, ln 2, ln 4: mean ln 2, deviation ln 2, t of two degrees 4.303.
        let ratio = ratio([(1.0, 1.0), (2.0, 1.0), (4.0, 1.0)]).unwrap();
        let margin = 4.303 * 2_f64.ln() / 3_f64.sqrt();
        let (low, high) = ratio.interval.unwrap();
        assert!(is_close(ratio.mean, 2.0));
        assert!(is_close(low, 2.0 * (-margin).exp()), "{low}");
        assert!(is_close(high, 2.0 * margin.exp()), "{high}");
    }

    #[test]
    fn a_round_without_a_result_does_not_count() {
        let ratio = ratio([(1.0, 0.0), (0.0, 1.0), (3.0, 1.0)]).unwrap();
        assert_eq!((ratio.rounds, ratio.interval), (1, None));
        assert_eq!(super::ratio([]), None);
    }

    #[test]
    fn quantiles_end_in_the_normal_distribution() {
        assert_eq!(t_95(1), 12.706);
        assert_eq!(t_95(14), 2.145);
        assert_eq!(t_95(30), 2.042);
        assert_eq!(t_95(31), 1.96);
    }
}
