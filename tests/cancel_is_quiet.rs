//! A cancel and a time limit do not call the panic hook. Alone in its process, for the hook is the process's.

use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cosocket::time::timeout;
use cosocket::{run, spawn, thread};

#[test]
fn the_panic_hook_hears_of_panics_and_not_of_cancels_and_limits() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let before = panic::take_hook();
    panic::set_hook(Box::new(|_| {
        PANICS.fetch_add(1, Ordering::SeqCst);
    }));
    let seen = run(|| {
        let waiting = spawn(thread::park);
        let sleeping = spawn(|| thread::sleep(Duration::MAX));
        let scoped = spawn(|| {
            thread::scope(|scope| {
                scope.spawn(thread::park);
            });
            thread::park();
        });
        let handles = [waiting, sleeping, scoped];
        handles.iter().for_each(|handle| handle.cancel());
        let cancelled = handles.map(|handle| handle.join().is_err());
        let nested = || timeout(Duration::MAX, thread::park);
        assert!(timeout(Duration::from_micros(1), nested).is_err());
        // The runtime's end cancels this one.
        spawn(thread::park);
        (cancelled, PANICS.load(Ordering::SeqCst))
    });
    assert!(timeout(Duration::from_micros(1), || thread::sleep(Duration::MAX)).is_err());
    let after_the_end = PANICS.load(Ordering::SeqCst);
    run(|| spawn(|| panic!("heard")).join().unwrap_err());
    let after_a_panic = PANICS.load(Ordering::SeqCst);
    panic::set_hook(before);
    assert_eq!(seen, ([true; 3], 0));
    assert_eq!((after_the_end, after_a_panic), (0, 1));
}
