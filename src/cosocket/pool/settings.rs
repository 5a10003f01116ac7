//! How a pool is to be: fixed when it is made, for as long as it lives.

use std::time::Duration;

use super::places::Limits;
use crate::clock::{self, NEVER, Nanos};

/// How many connections may be idle, where nobody has said.
pub(crate) const DEFAULT_SIZE: u32 = 30;

/// How long a connection may be idle, where nobody has said.
pub(crate) const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// What a pool is made with; `H` are its hooks.
#[derive(Clone, Debug)]
pub(crate) struct Settings<H> {
    pub(crate) limits: Limits,
    /// How long a connection may be idle, for those who do not say. `None`: for ever.
    pub(crate) idle_timeout: Option<Duration>,
    /// How old a connection may be to be parked or taken.
    pub(crate) max_age: Option<Duration>,
    /// Up to so much is taken off each connection's age limit, lest all that were opened together
    /// end together.
    pub(crate) max_age_jitter: Duration,
    pub(crate) hooks: H,
}

impl<H: Default> Default for Settings<H> {
    fn default() -> Settings<H> {
        Settings {
            limits: Limits { size: DEFAULT_SIZE, backlog: None },
            idle_timeout: Some(DEFAULT_IDLE_TIMEOUT),
            max_age: None,
            max_age_jitter: Duration::ZERO,
            hooks: H::default(),
        }
    }
}

impl<H> Settings<H> {
    /// When a connection that was opened at `opened_at` is too old. The same for the same
    /// connection at every call.
    pub(crate) fn too_old_at(&self, opened_at: Nanos) -> Nanos {
        let Some(max_age) = self.max_age else { return NEVER };
        let jitter = u64::try_from(self.max_age_jitter.min(max_age).as_nanos());
        let less = scattered(opened_at) % jitter.unwrap_or(u64::MAX).saturating_add(1).max(1);
        clock::later(opened_at, max_age).saturating_sub(less)
    }
}

/// A number that tells nothing of `seed` to the eye (SplitMix64's finish).
fn scattered(seed: u64) -> u64 {
    let word = (seed ^ seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_shortens_a_life_by_no_more_than_it_says() {
        let settings = Settings::<()> {
            max_age: Some(Duration::from_secs(10)),
            max_age_jitter: Duration::from_secs(2),
            ..Settings::default()
        };
        let second = 1_000_000_000;
        let lives: Vec<Nanos> =
            (0..100).map(|n| settings.too_old_at(n * 7919) - n * 7919).collect();
        assert!(lives.iter().all(|life| (8 * second..=10 * second).contains(life)), "{lives:?}");
        assert!(lives.iter().any(|&life| life != lives[0]), "all end together");
        let eternal = Settings::<()>::default();
        assert_eq!(eternal.too_old_at(5), NEVER);
        let exact = Settings::<()> { max_age_jitter: Duration::ZERO, ..settings };
        assert_eq!(exact.too_old_at(5), 5 + 10 * second);
    }
}
