//! User data: the one word that goes to the kernel with each entry and comes back with its
//! completion.
//!
//! ```text
//!     63          48 47                                        3 2 1 0
//!    +--------------+-------------------------------------------+-+---+
//!    |  generation  |  address of the OpSlot (8-aligned)        |0|tag|
//!    +--------------+-------------------------------------------+-+---+
//!     tag 0: the operation's own completion     tag 2: the doorbell (no slot)
//!     tag 1: a cancel that found nothing        tag 3: "cancel all" found nothing (no slot)
//! ```

use std::ptr;

use crate::driver::OpSlot;

pub(super) const TAG_MASK: u64 = 0b11;
pub(super) const TAG_OPERATION: u64 = 0;
pub(super) const TAG_CANCEL: u64 = 1;
pub(super) const DOORBELL: u64 = 2;
pub(super) const CANCEL_ALL: u64 = 3;

const ADDRESS_BITS: u32 = 48;
const ADDRESS_MASK: u64 = ((1 << ADDRESS_BITS) - 1) & !0b111;

/// The word by which the kernel knows what the slot has in flight.
pub(super) fn of(slot: &OpSlot) -> u64 {
    let address = ptr::from_ref(slot).expose_provenance() as u64;
    debug_assert_eq!(address & !ADDRESS_MASK, 0, "slot address out of range");
    address | u64::from(slot.generation()) << ADDRESS_BITS | TAG_OPERATION
}

/// The slot that `of` named.
pub(super) fn slot(user_data: u64) -> *const OpSlot {
    ptr::with_exposed_provenance((user_data & ADDRESS_MASK) as usize)
}
