// A program over the names `sync` and `thread` of the module that includes it: std's or ours.

use std::fmt::{Debug, Display};
use std::io;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use sync::{Arc, LockResult, PoisonError, TryLockError, TryLockResult};
use sync::{Condvar, Mutex, MutexGuard, WaitTimeoutResult};
use sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What must hold for the types; that this compiles is the check.
pub fn traits() {
    fn shareable<T: Send + Sync + UnwindSafe + RefUnwindSafe + Debug + ?Sized>() {}
    fn lock<T: Default + From<i32> + Unpin>() {}
    fn guard<T: Sync + Debug + Display + UnwindSafe + Unpin>() {}
    shareable::<Mutex<i32>>();
    shareable::<RwLock<i32>>();
    shareable::<Mutex<[i32]>>();
    shareable::<RwLock<[i32]>>();
    shareable::<Mutex<std::cell::Cell<i32>>>();
    shareable::<Condvar>();
    lock::<Mutex<i32>>();
    lock::<RwLock<i32>>();
    guard::<MutexGuard<'static, i32>>();
    guard::<RwLockReadGuard<'static, i32>>();
    guard::<RwLockWriteGuard<'static, i32>>();
    fn outcome<T: Copy + Eq + Debug + Send + Sync>() {}
    outcome::<WaitTimeoutResult>();
    let _: Condvar = Condvar::default();
    // A guard of a subtype will do for a reader.
    fn _shorter<'a, 'b>(
        guard: RwLockReadGuard<'a, &'static str>,
    ) -> RwLockReadGuard<'a, &'b str> {
        guard
    }
    not_send::check();
}

/// Guards are not `Send`: two implementations would apply to one that is, and this not compile.
mod not_send {
    use super::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};

    trait Ambiguous<Marker> {
        fn check() {}
    }
    struct Send_;
    impl<T: ?Sized> Ambiguous<()> for T {}
    impl<T: Send + ?Sized> Ambiguous<Send_> for T {}

    pub(super) fn check() {
        <MutexGuard<'static, i32> as Ambiguous<_>>::check();
        <RwLockReadGuard<'static, i32> as Ambiguous<_>>::check();
        <RwLockWriteGuard<'static, i32> as Ambiguous<_>>::check();
    }
}

/// Panics with `guard`, past the hook.
fn fail_with<G>(guard: G) {
    let failed = catch_unwind(AssertUnwindSafe(|| {
        let _guard = guard;
        resume_unwind(Box::new("on purpose"));
    }));
    assert!(failed.is_err());
}

pub fn mutexes() -> io::Result<()> {
    static SHARED: Mutex<Vec<i32>> = Mutex::new(Vec::new());
    SHARED.lock().unwrap().clear();
    let handles: Vec<_> = (0..4)
        .map(|n| {
            thread::spawn(move || {
                let mut shared: MutexGuard<'_, Vec<i32>> = SHARED.lock().unwrap();
                shared.push(n);
            })
        })
        .collect();
    handles.into_iter().for_each(|handle| handle.join().unwrap());
    let mut shared = SHARED.lock().unwrap();
    shared.sort_unstable();
    assert_eq!(*shared, [0, 1, 2, 3]);
    let denied: TryLockResult<MutexGuard<'_, Vec<i32>>> = SHARED.try_lock();
    assert_eq!(denied.unwrap_err().to_string(), "try_lock failed because the operation would block");
    drop(shared);

    let unsized_: &Mutex<[i32]> = &Mutex::new([1, 2]);
    unsized_.lock().unwrap()[1] = 3;
    assert_eq!(format!("{}", unsized_.lock().unwrap()[1]), "3");

    let mut mutex = Mutex::from(1);
    fail_with(mutex.lock().unwrap());
    assert!(mutex.is_poisoned());
    let poisoned: LockResult<MutexGuard<'_, i32>> = mutex.lock();
    let error: PoisonError<MutexGuard<'_, i32>> = poisoned.unwrap_err();
    assert_eq!(error.to_string(), "poisoned lock: another task failed inside");
    assert_eq!(**error.get_ref(), 1);
    drop(error);
    assert!(matches!(mutex.try_lock(), Err(TryLockError::Poisoned(_))));
    *mutex.get_mut().unwrap_err().into_inner() = 2;
    mutex.clear_poison();
    assert_eq!(*mutex.get_mut().unwrap(), 2);
    fail_with(mutex.lock().unwrap());
    assert_eq!(mutex.into_inner().unwrap_err().into_inner(), 2);
    Ok(())
}

pub fn read_write_locks() -> io::Result<()> {
    static SHARED: RwLock<i32> = RwLock::new(0);
    *SHARED.write().unwrap() = 5;
    let first = SHARED.read().unwrap();
    let second = SHARED.try_read().unwrap();
    assert_eq!(*first + *second, 10);
    assert!(matches!(SHARED.try_write(), Err(TryLockError::WouldBlock)));
    drop((first, second));
    let mut writer: RwLockWriteGuard<'_, i32> = SHARED.write().unwrap();
    *writer += 1;
    assert!(matches!(SHARED.try_read(), Err(TryLockError::WouldBlock)));
    let reader: RwLockReadGuard<'_, i32> = RwLockWriteGuard::downgrade(writer);
    let other = thread::spawn(|| *SHARED.read().unwrap());
    assert_eq!((other.join().unwrap(), *reader), (6, 6));
    drop(reader);

    let mut lock = RwLock::from(1);
    fail_with(lock.read().unwrap());
    assert!(!lock.is_poisoned());
    fail_with(lock.write().unwrap());
    assert!(lock.is_poisoned());
    assert!(lock.read().is_err() && lock.write().is_err());
    assert!(matches!(lock.try_read(), Err(TryLockError::Poisoned(_))));
    assert!(matches!(lock.try_write(), Err(TryLockError::Poisoned(_))));
    *lock.get_mut().unwrap_err().into_inner() = 2;
    lock.clear_poison();
    assert_eq!(lock.into_inner().unwrap(), 2);
    Ok(())
}

#[allow(deprecated)]
pub fn condition_variables() -> io::Result<()> {
    let pair = Arc::new((Mutex::new(0), Condvar::new()));
    let theirs = Arc::clone(&pair);
    let counts = thread::spawn(move || {
        for n in 1..=3 {
            *theirs.0.lock().unwrap() = n;
            theirs.1.notify_one();
            let count = theirs.0.lock().unwrap();
            drop(theirs.1.wait_while(count, |count| *count == n).unwrap());
        }
    });
    for n in 1..=3 {
        let mut count = pair.0.lock().unwrap();
        while *count != n {
            count = pair.1.wait(count).unwrap();
        }
        *count = 0;
        pair.1.notify_all();
    }
    counts.join().unwrap();

    let count = pair.0.lock().unwrap();
    let (count, result) = pair.1.wait_timeout(count, Duration::from_millis(1)).unwrap();
    let _: WaitTimeoutResult = result;
    let long = Duration::from_millis(1);
    let (count, result) = pair.1.wait_timeout_while(count, long, |_| true).unwrap();
    assert!(result.timed_out());
    let (count, result) = pair.1.wait_timeout_while(count, Duration::ZERO, |_| false).unwrap();
    assert!(!result.timed_out());
    let (count, _in_time) = pair.1.wait_timeout_ms(count, 1).unwrap();
    assert_eq!(*count, 0);
    Ok(())
}

/// The shape of `{:?}`, of each lock free, taken and poisoned, and of the guards.
pub fn debug() -> io::Result<Vec<String>> {
    let (mutex, lock, condvar) = (Mutex::new("data"), RwLock::new("data"), Condvar::new());
    let mut texts = vec![format!("{mutex:?} {mutex:#?} {lock:?} {lock:#?} {condvar:?}")];
    {
        let (guard, writer) = (mutex.lock().unwrap(), lock.write().unwrap());
        texts.push(format!("{mutex:?} {guard:?} {guard} {lock:?} {writer:?} {writer}"));
    }
    let reader = lock.read().unwrap();
    texts.push(format!("{lock:?} {reader:?} {reader}"));
    drop(reader);
    fail_with(mutex.lock().unwrap());
    fail_with(lock.write().unwrap());
    texts.push(format!("{mutex:?} {lock:?} {:?} {:?}", mutex.lock(), lock.try_read()));
    let guard = mutex.lock().unwrap_err().into_inner();
    mutex.clear_poison();
    let ended = condvar.wait_timeout_while(guard, Duration::ZERO, |_| true).unwrap();
    texts.push(format!("{ended:?}"));
    Ok(texts)
}
