//! Control blocks are used again; handles of those who had them before reach nobody.

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use cosocket::{Builder, run, spawn, spawn_local, thread};
use support::{assert_cancelled, on_workers};

#[test]
fn handles_of_finished_coroutines_disturb_none_that_use_their_blocks() {
    const COROUTINES: usize = 100_000;
    let mut over: Vec<(thread::Thread, thread::JoinHandle<usize>)> = Vec::new();
    run(|| {
        for round in 0..COROUTINES {
            let handle = spawn(move || {
                // A cancel meant for another would unwind here.
                thread::yield_now();
                round
            });
            while !handle.is_finished() {
                let any = round.wrapping_mul(31) % over.len().max(1);
                if let Some((thread, handle)) = over.get(any) {
                    thread.unpark();
                    handle.cancel();
                }
                thread::yield_now();
            }
            if round % 100 == 0 {
                over.push((handle.thread().clone(), handle));
            } else {
                assert_eq!(handle.join().expect("a stranger's cancel"), round);
            }
        }
    });
    for (n, (_, handle)) in over.into_iter().enumerate() {
        assert_eq!(handle.join().expect("a stranger's cancel"), n * 100);
    }
}

#[test]
fn late_wakes_and_cancels_from_everywhere_reach_nobody() {
    on_workers(3, || {
        let over = Arc::new(Mutex::new(Vec::<thread::JoinHandle<()>>::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicUsize::new(0));
        let plain = {
            let (over, stop) = (Arc::clone(&over), Arc::clone(&stop));
            std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    for handle in &*over.lock().unwrap() {
                        handle.thread().unpark();
                        handle.cancel();
                    }
                }
            })
        };
        let spawners: Vec<_> = (0..6)
            .map(|_| {
                let (over, done) = (Arc::clone(&over), Arc::clone(&done));
                spawn(move || {
                    for n in 0..2000 {
                        let done = Arc::clone(&done);
                        let handle = spawn(move || {
                            thread::yield_now();
                            thread::yield_now();
                            done.fetch_add(1, Ordering::SeqCst);
                        });
                        let short_lived = spawn_local(thread::yield_now);
                        support::until(|| handle.is_finished());
                        short_lived.join().expect("a stranger's cancel");
                        let mut over = over.lock().unwrap();
                        if over.len() < 64 {
                            over.push(handle);
                        } else {
                            let slot = n % 64;
                            let old = std::mem::replace(&mut over[slot], handle);
                            drop(over);
                            old.join().expect("a stranger's cancel");
                        }
                    }
                })
            })
            .collect();
        spawners.into_iter().for_each(|spawner| spawner.join().unwrap());
        stop.store(true, Ordering::SeqCst);
        plain.join().unwrap();
        assert_eq!(done.load(Ordering::SeqCst), 12_000);
    });
}

#[test]
fn a_handle_reaches_its_own_coroutine_however_often_its_block_was_used() {
    let runtime = Builder::new().build().unwrap();
    for _ in 0..5000 {
        let handle = runtime.spawn(thread::park);
        handle.thread().unpark();
        handle.join().unwrap();
        let handle = runtime.spawn(|| {
            loop {
                thread::park()
            }
        });
        handle.cancel();
        assert_cancelled(handle.join());
    }
}
