//! The machine's randomness.

use crate::ports::Entropy;

/// The kernel's random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    /// # Panics
    /// When the kernel has no randomness to give. There is nothing to fall back on: ids that repeat
    /// would merge two calls into one, and a guessable key is no key.
    #[expect(clippy::disallowed_methods, reason = "this is the adapter that the ban points to")]
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the kernel gives random bytes");
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn ids_differ_and_carry_their_time() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let (a, b) = (SystemEntropy.id(now), SystemEntropy.id(now));
        assert_ne!(a, b);
        assert_eq!(a.get_version_num(), 7);
        assert_eq!(a.get_timestamp().map(|t| t.to_unix().0), Some(1_800_000_000));
    }
}
