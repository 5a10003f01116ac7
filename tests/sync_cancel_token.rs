//! `CancelToken`: down the tree, never up; to those who ask, who wait and who run under it.

mod support;
#[allow(unsafe_code)]
mod util;

use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cosocket::sync::CancelToken;
use cosocket::{Cancelled, run, shield, spawn, thread, time};
use support::{
    Drops, assert_cancel_ends, assert_cancelled, connection, message, on_workers, panic_quietly,
    suspended,
};
use util::{Random, is_quick};

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn a_cancel_goes_down_and_never_up() {
    let root = CancelToken::new();
    let (left, right) = (root.child(), root.child());
    let below = left.child();
    left.cancel();
    left.cancel();
    assert!(left.is_cancelled() && below.is_cancelled());
    assert!(!root.is_cancelled() && !right.is_cancelled());
    assert!(left.child().is_cancelled(), "born so");
    root.cancel();
    assert!(right.is_cancelled());
    assert_eq!(format!("{root:?}"), "CancelToken { is_cancelled: true, .. }");
}

/// Whoever drops the handles in between.
#[test]
fn a_cancel_reaches_the_descendants_of_dropped_tokens() {
    let root = CancelToken::new();
    let grandchild = root.child().child();
    let coroutine = root.child().spawn(thread::park);
    root.cancel();
    assert!(grandchild.is_cancelled());
    assert_cancelled(coroutine.join());
}

/// Deeper than a coroutine's stack would bear, if it were walked or dropped by recursion.
#[test]
fn a_deep_tree_is_cancelled_and_dropped() {
    run(|| {
        let depth = if is_quick() { 10_000 } else { 200_000 };
        let root = CancelToken::new();
        let mut last = root.clone();
        (0..depth).for_each(|_| last = last.child());
        root.cancel();
        assert!(last.is_cancelled());
        drop(root);
        drop(last);
    });
}

#[test]
fn waits_end_when_it_is_cancelled() {
    let token = CancelToken::new();
    let waiters = [token.clone(), token.child(), token.child().child()]
        .map(|token| spawn(move || token.wait()));
    let thread = std::thread::spawn({
        let token = token.child();
        move || assert!(token.wait_timeout(Duration::MAX))
    });
    drop(token.clone().drop_guard().disarm());
    assert!(!token.is_cancelled());
    drop(token.clone().drop_guard());
    waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    thread.join().unwrap();
    token.wait();
}

#[test]
fn a_cancel_of_the_coroutine_ends_its_wait() {
    run(|| {
        let token = CancelToken::new();
        let waits = [
            |token: CancelToken| token.wait(),
            |token: CancelToken| {
                token.wait_timeout(Duration::MAX);
            },
        ];
        for wait in waits {
            let token = token.clone();
            assert_cancel_ends(move || wait(token));
        }
        assert!(!token.is_cancelled());
    });
}

#[test]
fn a_timeout_never_ends_early() {
    let check = || {
        let token = CancelToken::new();
        for timeout in [0, 1_000, 65_537, 2_000_000].map(Duration::from_nanos) {
            let start = Instant::now();
            assert!(!token.wait_timeout(timeout));
            assert!(start.elapsed() >= timeout);
        }
    };
    check();
    run(check);
}

#[test]
fn a_coroutine_under_the_token_is_unwound_with_it() {
    run(|| {
        let token = CancelToken::new();
        let drops = Drops::default();
        let handles: Vec<_> = (0..20)
            .map(|_| {
                let counted = drops.counted();
                token.spawn(move || {
                    let _counted = counted;
                    thread::park();
                })
            })
            .collect();
        let over = token.spawn(|| 7);
        assert_eq!(over.join().unwrap(), 7);
        token.cancel();
        handles.into_iter().for_each(|handle| assert_cancelled(handle.join()));
        assert_eq!(drops.count(), 20);
        assert_cancelled(token.spawn(thread::park).join());
    });
}

#[test]
fn run_returns_the_result_or_that_it_was_cut() {
    let check = || {
        let token = CancelToken::new();
        let mut numbers = vec![1, 2];
        assert_eq!(token.run(|| numbers.push(3)), Ok(()));
        assert_eq!(numbers, [1, 2, 3]);
        let child = token.child();
        let result = child.run(|| {
            token.cancel();
            thread::park();
            numbers.clear();
        });
        assert_eq!(result, Err(Cancelled));
        assert_eq!(numbers.len(), 3);
        assert_eq!(token.run(|| numbers.clear()), Err(Cancelled), "not begun");
        assert_eq!(numbers.len(), 3);
    };
    check();
    run(check);
}

#[test]
fn run_lets_a_shielded_or_waitless_end_count() {
    run(|| {
        let token = CancelToken::new();
        let result = token.run(|| {
            token.cancel();
            shield(thread::yield_now);
            7
        });
        assert_eq!(result, Ok(7));
    });
}

#[test]
fn run_passes_panics_and_the_callers_own_cancel_on() {
    run(|| {
        let token = CancelToken::new();
        let panics = || token.run(|| panic_quietly("by hand"));
        let payload = std::panic::catch_unwind(panics).unwrap_err();
        assert_eq!(message(&*payload), "by hand");
        let drops = Drops::default();
        let (counted, under) = (drops.counted(), token.clone());
        assert_cancel_ends(move || {
            let ended = under.run(|| {
                let _counted = &counted;
                thread::park();
            });
            unreachable!("{ended:?}");
        });
        assert_eq!(drops.count(), 1);
        assert!(!token.is_cancelled());
    });
}

/// It runs in place: nothing of it need be `Send`, and it is the caller that runs.
#[test]
fn run_runs_here() {
    run(|| {
        let token = CancelToken::new();
        let local = Rc::new(7);
        let got = token.run(|| (Rc::clone(&local), thread::current().id()));
        assert_eq!(got.unwrap(), (local, thread::current().id()));
    });
}

/// Every kind of wait of a coroutine, cancelled from elsewhere while it is in it.
#[test]
fn run_cuts_a_wait_that_is_going_on() {
    let waits: [(&str, fn()); 6] = [
        // In a loop: on a plain thread it may return for nothing, as in std.
        ("park", || {
            loop {
                thread::park()
            }
        }),
        ("sleep", || thread::sleep(LONG)),
        ("join", || drop(spawn(thread::park).join())),
        ("token", || CancelToken::new().wait()),
        ("read", || drop(connection().0.read(&mut [0]))),
        ("scope", || thread::scope(|scope| drop(scope.spawn(thread::park)))),
    ];
    for (name, wait) in waits {
        let check = |token: &CancelToken| {
            assert_eq!(token.run(wait), Err(Cancelled), "{name}");
            assert!(token.is_cancelled());
            // The limit is gone with the call.
            thread::yield_now();
            thread::sleep(Duration::from_nanos(1));
        };
        // From another worker, or thread; and from a child of the token that is cancelled.
        on_workers(2, || {
            let token = CancelToken::new();
            let canceller = spawn({
                let token = token.clone();
                move || {
                    (0..20).for_each(|_| thread::yield_now());
                    token.cancel();
                }
            });
            check(&token.child());
            canceller.join().unwrap();
        });
        let token = CancelToken::new();
        let canceller = std::thread::spawn({
            let token = token.clone();
            move || {
                std::thread::sleep(Duration::from_millis(2));
                token.cancel();
            }
        });
        check(&token);
        canceller.join().unwrap();
    }
}

/// Runs under tokens in runs under tokens: the one that was cancelled is the one that ends.
#[test]
fn run_ends_where_the_cancel_was_meant() {
    run(|| {
        let (outer, inner) = (CancelToken::new(), CancelToken::new());
        let result = outer.run(|| {
            let result = inner.run(|| {
                inner.cancel();
                thread::park();
            });
            thread::yield_now();
            result
        });
        assert_eq!(result, Ok(Err(Cancelled)));
        let inner = CancelToken::new();
        let result = outer.run(|| {
            inner.run(|| {
                outer.cancel();
                thread::park();
            })
        });
        assert_eq!(result, Err(Cancelled));
        // In its own timeout, and around one.
        let token = CancelToken::new();
        let elapsed = token.run(|| time::timeout(Duration::from_millis(1), thread::park));
        assert_eq!(elapsed.map(|result| result.is_err()), Ok(true));
        let cut = time::timeout(LONG, || {
            token.run(|| {
                token.cancel();
                thread::park();
            })
        });
        assert_eq!(cut, Ok(Err(Cancelled)));
    });
}

/// A cancel of the coroutine itself that a shield holds back does not take the token's for its own.
#[test]
fn run_in_a_shield_ends_in_it() {
    run(|| {
        let ended = Rc::new(Cell::new(None));
        let told = Rc::clone(&ended);
        let waiter = suspended(move || {
            shield(|| {
                let token = CancelToken::new();
                // Held back: it comes after the shield.
                thread::park();
                told.set(Some(token.run(|| {
                    token.cancel();
                    thread::park();
                })));
            });
            thread::yield_now();
        });
        waiter.cancel();
        waiter.thread().unpark();
        assert_cancelled(waiter.join());
        assert_eq!(ended.get(), Some(Err(Cancelled)));
    });
}

/// Tokens are made, given coroutines and cancelled on all sides at once: nobody is forgotten.
#[test]
fn a_storm_forgets_nobody() {
    let mut random = Random::new();
    on_workers(3, || {
        for _ in 0..if is_quick() { 5 } else { 100 } {
            let root = CancelToken::new();
            let live = Arc::new(AtomicUsize::new(0));
            let makers: Vec<_> = (0..10)
                .map(|_| {
                    let (root, live, mut random) = (root.clone(), live.clone(), random.split());
                    spawn(move || {
                        let mut handles = Vec::new();
                        let mut token = root;
                        for _ in 0..20 {
                            token = if random.one_in(2) { token.child() } else { token };
                            let live = Arc::clone(&live);
                            live.fetch_add(1, Ordering::SeqCst);
                            let leave = support::OnDrop(move || {
                                live.fetch_sub(1, Ordering::SeqCst);
                            });
                            let under = token.clone();
                            handles.push(match random.below(3) {
                                0 => spawn(move || {
                                    let _leave = leave;
                                    under.wait();
                                }),
                                1 => spawn(move || {
                                    let _leave = leave;
                                    under.run(thread::park).unwrap_err();
                                }),
                                _ => token.spawn(move || {
                                    let _leave = leave;
                                    thread::park();
                                }),
                            });
                            if random.one_in(5) {
                                thread::yield_now();
                            }
                        }
                        handles
                    })
                })
                .collect();
            (0..random.below(20)).for_each(|_| thread::yield_now());
            root.cancel();
            for handle in makers.into_iter().flat_map(|maker| maker.join().unwrap()) {
                if let Err(payload) = handle.join() {
                    assert!(payload.is::<Cancelled>());
                }
            }
            assert_eq!(live.load(Ordering::SeqCst), 0);
        }
    });
}

/// A plain wait of a coroutine that is not under the token is left alone.
#[test]
fn others_are_left_alone() {
    run(|| {
        let token = CancelToken::new();
        let under = token.spawn(thread::park);
        let bystander = suspended(thread::park);
        token.cancel();
        assert_cancelled(under.join());
        assert!(!bystander.is_finished());
        bystander.thread().unpark();
        bystander.join().unwrap();
    });
}
