//! The guard that holds back what would unwind.

use std::marker::PhantomData;

use crate::coroutine::Coroutine;
use crate::current;
use crate::limit;
use crate::worker::Worker;

/// Keeps what would unwind away from the current coroutine or thread while it lives.
pub(crate) struct Shield {
    /// `None` on a plain thread.
    block: Option<&'static Coroutine>,
    _not_send: PhantomData<*const ()>,
}

impl Shield {
    pub(crate) fn raise() -> Shield {
        let up = |shields: u16| shields.checked_add(1).expect("shields nested too deep");
        let block = current::worker().map(Worker::current);
        match block {
            Some(block) => block.shield.set(up(block.shield.get())),
            None => limit::change_shields_of_thread(up),
        }
        Shield { block, _not_send: PhantomData }
    }

    /// For waits that have no error to return: with `panic = "abort"` nothing can end them.
    pub(crate) fn where_nothing_unwinds() -> Option<Shield> {
        cfg!(panic = "abort").then(Shield::raise)
    }
}

impl Drop for Shield {
    fn drop(&mut self) {
        match self.block {
            Some(block) => block.shield.set(block.shield.get() - 1),
            None => limit::change_shields_of_thread(|shields| shields - 1),
        }
    }
}
