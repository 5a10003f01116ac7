//! What a connection carries for the sake of pools.

use std::fmt;
use std::sync::Arc;

use super::key::Key;
use super::user_data::UserData;
use crate::clock::{self, Nanos};

/// What a connection carries for the sake of pools, beside its ticket.
pub(crate) struct Member {
    /// Of the connection as it was made; whether it was encrypted since shows in its details.
    /// `None` if it was not made by a connect.
    pub(crate) key: Option<Arc<Key>>,
    pub(crate) opened_at: Nanos,
    pub(super) user_data: UserData,
}

impl Member {
    pub(crate) fn new(key: Option<Arc<Key>>) -> Member {
        Member { key, opened_at: clock::now(), user_data: UserData::default() }
    }
}

impl Default for Member {
    fn default() -> Member {
        Member::new(None)
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("key", &self.key).finish_non_exhaustive()
    }
}
