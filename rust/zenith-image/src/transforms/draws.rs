//! What is random in a sample: a stream of numbers for each transform, from the sample's key and the transform's place.

use zenith_data::transform::DrawKey;

/// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014), begun anew for each
/// transform, so that one more in a pipeline does not change what the others draw.
#[derive(Debug, Clone)]
pub struct Draws(u64);

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Draws {
    /// `place` is the transform's number in its pipeline.
    pub fn new(key: DrawKey, place: usize) -> Self {
        // Mixed before the place is added: keys that differ by a multiple of the step must not share their numbers.
        Self(mix(mix(key.0) ^ mix((place as u64 + 1).wrapping_mul(GOLDEN))))
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// In 0..1.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (0.5f64).powi(53)
    }

    pub fn uniform(&mut self, range: [f64; 2]) -> f64 {
        range[0] + (range[1] - range[0]) * self.unit()
    }

    /// In 0..`bound`, 0 for a bound of 0. The bias is below bound / 2⁶⁴.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Standard normal, by Box and Muller.
    pub fn normal(&mut self) -> f64 {
        // 1 − u lies in (0, 1], where the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Beta(`alpha`, `alpha`), as the share of two gammas.
    pub fn beta(&mut self, alpha: f64) -> f64 {
        let (first, second) = (self.log_gamma(alpha), self.log_gamma(alpha));
        // By logarithms, because for small alphas both gammas may be too small for a number.
        1.0 / (1.0 + (second - first).exp())
    }

    /// The logarithm of a gamma variate of shape `alpha` and scale 1 (Marsaglia, Tsang: "A Simple Method for Generating
    /// Gamma Variables", 2000; their way with shapes below 1).
    fn log_gamma(&mut self, alpha: f64) -> f64 {
        let boost = if alpha < 1.0 { (1.0 - self.unit()).ln() / alpha } else { 0.0 };
        let d = if alpha < 1.0 { alpha + 1.0 } else { alpha } - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        // Fewer than one in twenty is refused; a thousand in a row are not.
        for _ in 0..1000 {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && (1.0 - self.unit()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return (d * v).ln() + boost;
            }
        }
        d.ln() + boost
    }

    /// A permutation of 0..4, each as likely.
    pub fn order_of_four(&mut self) -> [usize; 4] {
        let mut order = [0, 1, 2, 3];
        for last in (1..4).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }
}

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_key_and_place() {
        let first = |key, place| Draws::new(DrawKey(key), place).next_u64();
        let all: std::collections::HashSet<u64> =
            (0..64).flat_map(|key| (0..64).map(move |place| first(key, place))).collect();
        assert_eq!(all.len(), 64 * 64);
        assert_eq!(first(3, 4), first(3, 4));
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut draws = Draws::new(DrawKey(7), 0);
        let count = 200_000;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let variance =
            |values: &[f64]| mean(&values.iter().map(|value| value * value).collect::<Vec<_>>()) - mean(values).powi(2);
        let normal: Vec<f64> = (0..count).map(|_| draws.normal()).collect();
        assert!(mean(&normal).abs() < 0.01 && (variance(&normal) - 1.0).abs() < 0.02);
        for alpha in [0.2, 1.0, 3.0] {
            let beta: Vec<f64> = (0..count).map(|_| draws.beta(alpha)).collect();
            assert!((mean(&beta) - 0.5).abs() < 0.005);
            assert!((variance(&beta) - 1.0 / (4.0 * (2.0 * alpha + 1.0))).abs() < 0.003, "{alpha}");
        }
    }
}
