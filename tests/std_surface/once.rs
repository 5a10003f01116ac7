// A program over the names `sync` and `thread` of the module that includes it: std's or ours.

use std::fmt::Debug;
use std::io;

/// What must hold for the types; that this compiles is the check. `F` of a `LazyLock` must be
/// `Send`, and `T` both, for the whole to be shared.
pub fn traits() {
    fn shareable<T: Send + Sync + std::panic::UnwindSafe + Debug>() {}
    shareable::<sync::Barrier>();
    shareable::<sync::BarrierWaitResult>();
    shareable::<sync::Once>();
    fn told<T: Send + Debug>() {}
    told::<sync::OnceState>();
    shareable::<sync::OnceLock<i32>>();
    shareable::<sync::LazyLock<i32>>();
    fn sent<T: Send>() {}
    sent::<sync::OnceLock<std::cell::Cell<i32>>>();
    fn values<T: Clone + Eq + Default + From<i32>>() {}
    values::<sync::OnceLock<i32>>();
    fn defaults<T: Default>() {}
    defaults::<sync::LazyLock<i32>>();
    fn derefs<T: std::ops::DerefMut<Target = i32>>() {}
    derefs::<sync::LazyLock<i32>>();
}

fn panics(f: impl FnOnce()) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err()
}

/// A panic without the hook's noise.
fn panic_quietly() -> ! {
    std::panic::resume_unwind(Box::new("by hand"))
}

pub fn barriers() -> io::Result<()> {
    static BARRIER: sync::Barrier = sync::Barrier::new(1);
    let result: sync::BarrierWaitResult = BARRIER.wait();
    assert!(result.is_leader() && BARRIER.wait().is_leader());
    assert!(sync::Barrier::new(0).wait().is_leader());
    let barrier = sync::Barrier::new(4);
    let leaders = std::sync::atomic::AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let led = usize::from(barrier.wait().is_leader());
                    leaders.fetch_add(led, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(leaders.into_inner(), 10);
    Ok(())
}

pub fn onces() -> io::Result<()> {
    static ONCE: sync::Once = sync::Once::new();
    ONCE.call_once(|| ());
    let once = sync::Once::new();
    let mut calls = 0;
    assert!(!once.is_completed());
    (0..3).for_each(|_| once.call_once(|| calls += 1));
    once.call_once_force(|_| calls += 1);
    once.wait();
    once.wait_force();
    assert!(once.is_completed());
    assert_eq!(calls, 1);
    let once = sync::Once::new();
    thread::scope(|scope| {
        scope.spawn(|| once.wait());
        scope.spawn(|| once.wait_force());
        once.call_once(thread::yield_now);
    });

    // Poison.
    let once = sync::Once::new();
    assert!(panics(|| once.call_once(|| panic_quietly())));
    assert!(!once.is_completed());
    assert!(panics(|| once.call_once(|| ())));
    assert!(panics(|| once.wait()));
    assert!(panics(|| once.call_once_force(|_| panic_quietly())));
    once.call_once_force(|state: &sync::OnceState| assert!(state.is_poisoned()));
    once.call_once(|| unreachable!());
    once.wait();
    let once = sync::Once::new();
    once.call_once_force(|state| assert!(!state.is_poisoned()));
    Ok(())
}

pub fn once_locks() -> io::Result<()> {
    static CELL: sync::OnceLock<i32> = sync::OnceLock::new();
    assert_eq!(CELL.get_or_init(|| 5), &5);
    let cell = sync::OnceLock::new();
    assert_eq!(cell.get(), None);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| *cell.wait());
        assert!(panics(|| {
            cell.get_or_init(|| panic_quietly());
        }));
        assert_eq!(cell.get(), None);
        assert_eq!(cell.get_or_init(|| 5), &5);
        assert_eq!(waiter.join().unwrap(), 5);
    });
    assert_eq!(cell.get_or_init(|| unreachable!()), &5);
    assert_eq!(cell.set(6), Err(6));
    assert_eq!((cell.get(), cell.wait()), (Some(&5), &5));

    let mut cell = sync::OnceLock::from(String::from("one"));
    cell.get_mut().unwrap().push_str(" two");
    assert_eq!(cell.clone(), cell);
    assert_ne!(cell, sync::OnceLock::new());
    assert_eq!(cell.take().as_deref(), Some("one two"));
    assert_eq!(cell.get(), None);
    assert_eq!(cell.take(), None);
    cell.set("three".into()).unwrap();
    assert_eq!(cell.into_inner().as_deref(), Some("three"));
    assert_eq!(sync::OnceLock::<i32>::default().into_inner(), None);

    // A value that borrows what its cell does not outlive.
    let cell = sync::OnceLock::new();
    let text = String::from("borrowed");
    assert_eq!(*cell.get_or_init(|| &text[..]), "borrowed");
    Ok(())
}

pub fn lazy_locks() -> io::Result<()> {
    static LAZY: sync::LazyLock<Vec<i32>> = sync::LazyLock::new(|| vec![1, 2]);
    assert_eq!(LAZY.len(), 2);
    assert_eq!(sync::LazyLock::force(&LAZY), &[1, 2]);
    assert_eq!(sync::LazyLock::get(&LAZY), Some(&vec![1, 2]));

    let mut calls = 0;
    let mut lazy = sync::LazyLock::new(|| {
        calls += 1;
        1
    });
    assert_eq!(sync::LazyLock::get(&lazy), None);
    assert_eq!(sync::LazyLock::get_mut(&mut lazy), None);
    *lazy += 1;
    *sync::LazyLock::force_mut(&mut lazy) += 1;
    assert_eq!(sync::LazyLock::get_mut(&mut lazy), Some(&mut 3));
    assert_eq!(*lazy, 3);
    drop(lazy);
    assert_eq!(calls, 1);
    assert_eq!(*sync::LazyLock::<i32>::default(), 0);

    let mut lazy = sync::LazyLock::<i32, _>::new(|| panic_quietly());
    (0..2).for_each(|_| assert!(panics(|| assert_eq!(*lazy, 0))));
    assert_eq!(sync::LazyLock::get(&lazy), None);
    assert_eq!(sync::LazyLock::get_mut(&mut lazy), None);
    assert!(panics(|| *lazy = 1));
    Ok(())
}

pub fn debug() -> Vec<String> {
    let (barrier, once) = (sync::Barrier::new(1), sync::Once::new());
    let (empty, full) = (sync::OnceLock::<i32>::new(), sync::OnceLock::from(1));
    let lazy = sync::LazyLock::new(|| 2);
    let mut shapes = vec![format!("{barrier:?} {once:?} {empty:?} {full:?} {lazy:?}")];
    let result = barrier.wait();
    once.call_once_force(|state| shapes.push(format!("{state:?}")));
    shapes.push(format!("{result:?} {once:?} {} {lazy:?} {full:#?}", *lazy));
    shapes
}
