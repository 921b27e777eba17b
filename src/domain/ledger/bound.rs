//! A call's worst case, as a hold asks for it: an amount, or one that follows what is left.
//!
//! A call that names no limit of its output gets one filled in. Fixed at its arrival, that limit would
//! hold so much that a few calls at once keep all others waiting or refused with most of the cap unspent
//! (measured on a peer: 12 % served). So the bound is reckoned whenever the call is considered, inside
//! the commit that decides it: at most a [`SHARE`]th of what its lines have left, with a floor, so that
//! a call is never cut to nothing. What is left is limit - posted, and not less what is held: held money
//! comes back, and a bound that followed it would shrink for everybody the moment many call at once.
//!
//! Rounding goes against the call, up in the bound and down in its tokens, so that what a granted bound
//! lets through never costs more than it. Nothing here wraps or panics: a product that no amount can hold
//! is [`Usd::MAX`], which no line has left and no hold may have.

use serde::{Deserialize, Serialize};

use super::batch::LedgerRejection;
use crate::domain::money::{MAX_POSTING, Usd};

/// A filled-in bound is at most this part of what is left: so many calls at once find room.
pub const SHARE: i64 = 16;

/// Units that a rate is quoted for.
const PER: u64 = 1_000_000;

/// What a hold asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The call's worst case, whatever is left.
    Fixed(Usd),
    /// The limit of the output is ours to fill in.
    Tokens(TokenBound),
}

/// A worst case that grows with the output that is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TokenBound {
    /// What the call costs at worst without any output.
    pub base: Usd,
    /// The price of a million units of output in nano-dollars, for all answers that are asked for together.
    pub nanos_per_million: u64,
    /// The units that are allowed when enough is left.
    pub wanted: u64,
    /// The units below which it is not lowered, whatever is left.
    pub least: u64,
}

impl Bound {
    /// The bound when `left` is what its lines have left; `None` where no line sets a limit.
    #[must_use]
    pub fn within(&self, left: Option<Usd>) -> Usd {
        match self {
            Self::Fixed(bound) => *bound,
            Self::Tokens(tokens) => left.map_or_else(|| tokens.most(), |left| tokens.at(left)),
        }
    }

    /// The smallest it can be: what does not even have this much left refuses for good.
    #[must_use]
    pub fn least(&self) -> Usd {
        match self {
            Self::Fixed(bound) => *bound,
            Self::Tokens(tokens) => tokens.least(),
        }
    }

    /// The largest it can be.
    #[must_use]
    pub fn most(&self) -> Usd {
        match self {
            Self::Fixed(bound) => *bound,
            Self::Tokens(tokens) => tokens.most(),
        }
    }

    /// Whether an amount of this kind may be held at all.
    ///
    /// # Errors
    /// A part of it is negative, or the most of it above what is ever posted.
    pub fn check(&self) -> Result<(), LedgerRejection> {
        let base = match self {
            Self::Fixed(bound) => *bound,
            Self::Tokens(tokens) => tokens.base,
        };
        if base.is_negative() {
            Err(LedgerRejection::Negative)
        } else if self.most() > MAX_POSTING {
            Err(LedgerRejection::Absurd)
        } else {
            Ok(())
        }
    }
}

impl From<Usd> for Bound {
    fn from(bound: Usd) -> Self {
        Self::Fixed(bound)
    }
}

impl From<TokenBound> for Bound {
    fn from(tokens: TokenBound) -> Self {
        Self::Tokens(tokens)
    }
}

impl TokenBound {
    /// The bound for what is left: a [`SHARE`]th of it at most, but never less than [`least`](Self::least).
    #[must_use]
    pub fn at(&self, left: Usd) -> Usd {
        let share = Usd::from_nanos(left.nanos() / SHARE);
        if share >= self.most() {
            return self.most();
        }
        self.cost(self.affords(share).clamp(self.floor(), self.wanted))
    }

    /// The bound at its floor.
    #[must_use]
    pub fn least(&self) -> Usd {
        self.cost(self.floor())
    }

    /// The bound with all the output that is wanted.
    #[must_use]
    pub fn most(&self) -> Usd {
        self.cost(self.wanted)
    }

    /// How many units a granted bound lets through: they never cost more than it.
    #[must_use]
    pub fn tokens_within(&self, bound: Usd) -> u64 {
        self.affords(bound).min(self.wanted)
    }

    /// A floor above what is wanted is none.
    fn floor(&self) -> u64 {
        self.least.min(self.wanted)
    }

    /// The base and so many units, rounded up.
    fn cost(&self, units: u64) -> Usd {
        let output = match units.checked_mul(self.nanos_per_million) {
            Some(product) => i128::from(product.div_ceil(PER)),
            None => {
                let product = u128::from(units) * u128::from(self.nanos_per_million);
                i128::try_from(product.div_ceil(u128::from(PER))).unwrap_or(i128::MAX)
            }
        };
        let cost = i128::from(self.base.nanos()).saturating_add(output);
        Usd::from_i128(cost).unwrap_or(Usd::MAX)
    }

    /// The units that cost no more than `bound` together with the base, rounded down.
    fn affords(&self, bound: Usd) -> u64 {
        let output = i128::from(bound.nanos()) - i128::from(self.base.nanos());
        let Ok(output) = u64::try_from(output) else {
            return 0;
        };
        if self.nanos_per_million == 0 {
            return u64::MAX;
        }
        match output.checked_mul(PER) {
            Some(product) => product / self.nanos_per_million,
            None => {
                let units = u128::from(output) * u128::from(PER) / u128::from(self.nanos_per_million);
                u64::try_from(units).unwrap_or(u64::MAX)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_assume, prop_oneof, proptest};

    use super::*;

    fn usd(nanos: i64) -> Usd {
        Usd::from_nanos(nanos)
    }

    /// A dollar for a million units, a cent for the input.
    const CALL: TokenBound = TokenBound {
        base: Usd::from_nanos(10_000_000),
        nanos_per_million: 1_000_000_000,
        wanted: 4_096,
        least: 256,
    };

    #[test]
    fn it_is_a_sixteenth_of_what_is_left_between_the_floor_and_what_is_wanted() {
        let most = usd(10_000_000 + 4_096_000);
        let least = usd(10_000_000 + 256_000);
        assert_eq!((CALL.most(), CALL.least()), (most, least));
        assert_eq!(CALL.at(usd(most.nanos() * 16)), most);
        assert_eq!(CALL.at(Usd::MAX), most);
        // A sixteenth of 0.192 dollars is 0.012: two thousand units.
        assert_eq!(CALL.at(usd(192_000_000)), usd(12_000_000));
        assert_eq!(CALL.tokens_within(usd(12_000_000)), 2_000);
        for left in [100_000_000, 1, 0, -5, i64::MIN] {
            assert_eq!(CALL.at(usd(left)), least, "of {left}");
        }
        assert_eq!(Bound::from(CALL).within(None), most);
        assert_eq!(Bound::from(usd(7)).within(Some(usd(1))), usd(7));
    }

    #[test]
    fn an_output_that_costs_nothing_is_never_lowered() {
        let free = TokenBound {
            nanos_per_million: 0,
            ..CALL
        };
        assert_eq!(free.at(usd(0)), CALL.base);
        assert_eq!(free.tokens_within(free.at(usd(0))), 4_096);
    }

    #[test]
    fn what_no_amount_can_hold_is_absurd_and_a_negative_base_is_negative() {
        let huge = TokenBound {
            nanos_per_million: u64::MAX,
            wanted: u64::MAX,
            ..CALL
        };
        assert_eq!(huge.most(), Usd::MAX);
        assert_eq!(Bound::from(huge).check(), Err(LedgerRejection::Absurd));
        let negative = TokenBound { base: usd(-1), ..CALL };
        assert_eq!(Bound::from(negative).check(), Err(LedgerRejection::Negative));
        assert_eq!(Bound::from(usd(-1)).check(), Err(LedgerRejection::Negative));
        assert_eq!(Bound::from(CALL).check(), Ok(()));
    }

    fn any_units() -> impl Strategy<Value = u64> {
        prop_oneof![0_u64..5, 0_u64..200_000, any::<u64>()]
    }

    fn any_call() -> impl Strategy<Value = TokenBound> {
        let base = prop_oneof![0_i64..5, 0_i64..1_000_000_000, any::<i64>()];
        (base, any_units(), any_units(), any_units()).prop_map(|(base, nanos_per_million, wanted, least)| TokenBound {
            base: usd(base),
            nanos_per_million,
            wanted,
            least,
        })
    }

    fn any_usd() -> impl Strategy<Value = Usd> {
        prop_oneof![-5_i64..50, 0_i64..100_000_000_000, any::<i64>()].prop_map(usd)
    }

    proptest! {
        #[test]
        fn whatever_is_left_it_stays_between_its_ends(call in any_call(), left in any_usd()) {
            let bound = call.at(left);
            prop_assert!(call.least() <= bound && bound <= call.most());
            let share = i128::from(left.nanos()) / i128::from(SHARE);
            prop_assert!(bound == call.least() || i128::from(bound.nanos()) <= share);
        }

        /// What a bound lets through costs no more than it, and one unit more would, or is not wanted.
        #[test]
        fn the_tokens_of_a_bound_cost_no_more_than_it(call in any_call(), bound in any_usd()) {
            prop_assume!(bound >= call.base && call.most() < Usd::MAX);
            let tokens = call.tokens_within(bound);
            prop_assert!(tokens <= call.wanted);
            prop_assert!(call.cost(tokens) <= bound);
            prop_assert!(tokens == call.wanted || call.cost(tokens + 1) > bound);
        }

        /// The client is never told of fewer tokens than its hold was granted for.
        #[test]
        fn a_granted_bound_lets_its_own_tokens_through(call in any_call(), left in any_usd()) {
            prop_assume!(call.most() < Usd::MAX);
            let bound = call.at(left);
            prop_assert!(call.tokens_within(bound) >= call.floor());
            prop_assert_eq!(call.cost(call.tokens_within(bound)), bound);
        }

        #[test]
        fn more_left_never_means_a_smaller_bound(call in any_call(), a in any_usd(), b in any_usd()) {
            prop_assert!(call.at(a.min(b)) <= call.at(a.max(b)));
        }
    }
}
