//! What workers count.

use crate::counter::Counter;

/// What a runtime's workers have done since it started. Plain numbers; subtract two to measure.
///
/// ```
/// let runtime = cosocket::Builder::new().workers(1).build()?;
/// let before = runtime.metrics();
/// runtime.run(|| (0..10).for_each(|_| cosocket::thread::sleep(std::time::Duration::from_nanos(1))));
/// assert!(runtime.metrics().switches - before.switches >= 10);
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Coroutines that are spawned and not finished.
    pub live: u64,
    /// Coroutines that have finished.
    pub finished: u64,
    /// Switches into a coroutine.
    pub switches: u64,
    /// Turns of the workers' loops.
    pub turns: u64,
    /// System calls made for waits, submissions, and attempts at I/O. Not those that make, set up
    /// or close descriptors.
    pub system_calls: u64,
    /// Places for stacks that are mapped, used or not.
    pub stack_slots: u64,
    /// Of these, how many have a guard that costs two mappings (`vm.max_map_count`), for want of
    /// `MADV_GUARD_INSTALL` (Linux 6.13).
    pub stack_slots_protected: u64,
    /// Of all, how many are used, promised, or kept ready by a worker.
    pub stack_slots_in_use: u64,
    /// Address space mapped for stacks, guards included. Not memory.
    pub stack_mapped_bytes: u64,
}

/// A worker's counters: written by the worker alone, read by anyone.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) switches: Counter,
    pub(crate) turns: Counter,
    /// Calls made by the driver.
    pub(crate) system_calls: Counter,
    /// Calls made inline, by coroutines.
    pub(crate) attempts: Counter,
}

impl Counters {
    pub(crate) fn add_to(&self, metrics: &mut Metrics) {
        metrics.switches += self.switches.read();
        metrics.turns += self.turns.read();
        metrics.system_calls += self.system_calls.read() + self.attempts.read();
    }
}
