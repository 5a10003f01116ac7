//! What pools of one name are made by.

use std::sync::{Mutex, PoisonError};

use super::Pooled;
use super::metrics::PoolMetrics;
use super::settings::Settings;

/// The settings of pools, and what those of them did that are no more.
pub(crate) struct Plan<C: Pooled> {
    pub(crate) settings: Settings<C::Hooks>,
    past: Mutex<PoolMetrics>,
}

impl<C: Pooled> Plan<C> {
    pub(super) fn new(settings: Settings<C::Hooks>) -> Plan<C> {
        Plan { settings, past: Mutex::default() }
    }

    pub(super) fn past(&self) -> PoolMetrics {
        *self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add_past(&self, metrics: &PoolMetrics) {
        self.past.lock().unwrap_or_else(PoisonError::into_inner).add(metrics);
    }
}
