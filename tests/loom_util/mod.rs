//! What the models share.

#![allow(dead_code, reason = "each model uses its own part of this")]

use std::ops::Deref;

use loom::thread;

/// Every order of the model's steps in which no more than three threads are interrupted.
pub fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// A thread of the model, with its world, which is in std's `Arc` or in loom's.
pub fn spawn<A: Deref + Clone + 'static, T: 'static>(
    world: &A,
    f: impl FnOnce(&A::Target) -> T + 'static,
) -> thread::JoinHandle<T> {
    let world = world.clone();
    thread::spawn(move || f(&world))
}
