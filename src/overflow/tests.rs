use std::cell::Cell;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::child;
use crate::stack::{Stack, StackCache, StackPool};

thread_local! {
    /// The guard and the name of the coroutine that this thread pretends to run.
    static CURRENT: Cell<Option<(usize, usize, &'static str)>> = const { Cell::new(None) };
}

fn current() -> Option<Subject> {
    CURRENT.get().map(|(start, end, name)| Subject {
        guard: start..end,
        size_bytes: 256 << 10,
        id: 18,
        name: Some(NonNull::from(name)),
        spawned_at: Location::caller(),
        worker: 3,
    })
}

/// Installs the handler and makes the hook name a coroutine with the guard.
fn pretend_to_run(guard: Range<usize>, name: &'static str) {
    CURRENT.set(Some((guard.start, guard.end, name)));
    // SAFETY: `current` reads a thread-local that needs no initialisation.
    unsafe { install(current) }.unwrap();
}

fn new_stack() -> Stack {
    let cache = StackCache::new(Arc::new(StackPool::new(256 << 10).unwrap()));
    cache.take(cache.reserve(None).unwrap())
}

fn write_to(address: usize) {
    // SAFETY: it is not safe: this is where the child dies.
    unsafe { (address as *mut u8).write_volatile(1) };
}

fn died_of(output: &Output, signal: libc::c_int) {
    let stderr = child::stderr(output);
    assert_eq!(output.status.signal(), Some(signal), "{:?}: {stderr}", output.status);
}

fn reports(output: &Output) -> usize {
    child::stderr(output).matches("cosocket: coroutine").count()
}

#[test]
fn access_in_the_guard_is_reported_and_kills() {
    let output = child::run("overflow::tests::access_in_the_guard_is_reported_and_kills", || {
        let stack = new_stack();
        let _signal_stack = SignalStack::new().unwrap();
        pretend_to_run(stack.guard(), "reader");
        eprintln!("<{:#x}>", stack.guard().end - 1);
        write_to(stack.guard().end - 1);
    });
    died_of(&output, libc::SIGSEGV);
    let stderr = child::stderr(&output);
    let address = stderr.split(['<', '>']).nth(1).unwrap();
    let (_, report) = stderr.split_once(">\n").unwrap();
    let expected = format!(
        "cosocket: coroutine 18 \"reader\" overflowed its stack of 262144 bytes \
         (worker 3, fault at {address}); spawned at src/overflow/tests.rs:"
    );
    assert!(report.starts_with(&expected), "{report}");
    assert!(
        report.ends_with(". Larger stacks: Builder::stack_size or thread::Builder::stack_size.\n"),
        "{report}"
    );
    assert_eq!(report.lines().count(), 1, "{report}");
}

/// The real thing: the stack pointer is in the guard, and the handler still has where to run.
#[test]
fn endless_recursion_is_reported() {
    let output = child::run("overflow::tests::endless_recursion_is_reported", || {
        let stack = Box::leak(Box::new(new_stack()));
        run_on(stack, recurse_in_guarded_thread);
    });
    died_of(&output, libc::SIGSEGV);
    assert_eq!(reports(&output), 1, "{}", child::stderr(&output));
}

extern "C" fn recurse_in_guarded_thread(stack: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: `run_on` passes it.
    let stack = unsafe { &*stack.cast::<Stack>() };
    let _signal_stack = SignalStack::new().unwrap();
    pretend_to_run(stack.guard(), "reader");
    recurse(1);
    std::ptr::null_mut()
}

#[allow(unconditional_recursion)]
fn recurse(depth: usize) -> usize {
    let frame = [depth as u8; 300];
    recurse(std::hint::black_box(&frame).len() + depth) + usize::from(frame[7])
}

/// Runs a raw thread on the stack, which has no signal stack of std's.
fn run_on(stack: &'static Stack, body: extern "C" fn(*mut libc::c_void) -> *mut libc::c_void) {
    let bytes = stack.top().addr() - stack.bottom().addr();
    // SAFETY: the C library's protocol for starting a thread on given memory, which is ours.
    unsafe {
        let mut attributes = std::mem::zeroed();
        assert_eq!(libc::pthread_attr_init(&mut attributes), 0);
        let answer = libc::pthread_attr_setstack(&mut attributes, stack.bottom().cast(), bytes);
        assert_eq!(answer, 0);
        let mut thread = std::mem::zeroed();
        let argument = std::ptr::from_ref(stack).cast_mut().cast();
        assert_eq!(libc::pthread_create(&mut thread, &attributes, body, argument), 0);
        libc::pthread_join(thread, std::ptr::null_mut());
    }
}

#[test]
fn long_name_is_cut_and_the_rest_is_not() {
    let output = child::run("overflow::tests::long_name_is_cut_and_the_rest_is_not", || {
        let stack = new_stack();
        // A cut at an even offset would split a character.
        let name = format!("x{}", "\u{e4}".repeat(5000)).leak();
        let _signal_stack = SignalStack::new().unwrap();
        pretend_to_run(stack.guard(), name);
        write_to(stack.guard().start);
    });
    died_of(&output, libc::SIGSEGV);
    let stderr = child::stderr(&output);
    let cut = format!("\"x{}\" overflowed", "\u{e4}".repeat(49));
    assert!(stderr.contains(&cut), "{stderr}");
    assert!(stderr.ends_with("thread::Builder::stack_size.\n"), "{stderr}");
}

#[test]
fn other_faults_are_not_ours() {
    let output = child::run("overflow::tests::other_faults_are_not_ours", || {
        let stack = new_stack();
        pretend_to_run(stack.guard(), "reader");
        write_to(8);
    });
    died_of(&output, libc::SIGSEGV);
    assert_eq!(reports(&output), 0);
}

#[test]
fn guard_of_another_coroutine_is_not_ours() {
    let output = child::run("overflow::tests::guard_of_another_coroutine_is_not_ours", || {
        let stack = new_stack();
        pretend_to_run(stack.guard(), "reader");
        write_to(new_stack().guard().start);
    });
    died_of(&output, libc::SIGSEGV);
    assert_eq!(reports(&output), 0);
}

#[test]
fn fault_where_no_coroutine_runs_is_not_ours() {
    let output = child::run("overflow::tests::fault_where_no_coroutine_runs_is_not_ours", || {
        let stack = new_stack();
        pretend_to_run(stack.guard(), "reader");
        CURRENT.set(None);
        write_to(stack.guard().start);
    });
    died_of(&output, libc::SIGSEGV);
    assert_eq!(reports(&output), 0);
}

#[test]
fn overflow_of_a_thread_is_still_reported_by_std() {
    let output =
        child::run("overflow::tests::overflow_of_a_thread_is_still_reported_by_std", || {
            let stack = new_stack();
            let body = move || {
                pretend_to_run(stack.guard(), "reader");
                recurse(1)
            };
            std::thread::Builder::new().name("deep".into()).spawn(body).unwrap().join().unwrap();
        });
    died_of(&output, libc::SIGABRT);
    let stderr = child::stderr(&output);
    assert!(stderr.contains("thread 'deep'"), "{stderr}");
    assert!(stderr.contains("has overflowed its stack"), "{stderr}");
    assert_eq!(reports(&output), 0);
}

/// Tests run on other threads, so a signal makes the main thread recurse.
#[test]
fn overflow_of_the_main_thread_is_still_reported_by_std() {
    extern "C" fn recurse_here(_: libc::c_int) {
        recurse(1);
    }
    let output =
        child::run("overflow::tests::overflow_of_the_main_thread_is_still_reported_by_std", || {
            pretend_to_run(new_stack().guard(), "reader");
            set_action(libc::SIGUSR1, recurse_here as *const () as usize, 0);
            let process = std::process::id();
            // SAFETY: plain numbers; the first thread has the process's number.
            unsafe { libc::syscall(libc::SYS_tgkill, process, process, libc::SIGUSR1) };
            loop {
                std::thread::park();
            }
        });
    died_of(&output, libc::SIGABRT);
    let stderr = child::stderr(&output);
    assert!(stderr.contains("thread 'main'"), "{stderr}");
    assert!(stderr.contains("has overflowed its stack"), "{stderr}");
    assert_eq!(reports(&output), 0);
}

fn set_action(signal: libc::c_int, handler: libc::sighandler_t, flags: libc::c_int) {
    // SAFETY: all zeros is a valid action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    // SAFETY: the tests pass handlers that fit the flags.
    let answer = unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
    assert_eq!(answer, 0);
}

fn send(signal: libc::c_int) {
    // SAFETY: plain numbers. To the thread, so that it is handled before the call returns.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

/// The whole address space as the guard: it is the signal's code that says it is no overflow.
#[test]
fn sent_segv_kills_by_default() {
    let output = child::run("overflow::tests::sent_segv_kills_by_default", || {
        set_action(libc::SIGSEGV, libc::SIG_DFL, 0);
        pretend_to_run(0..usize::MAX, "reader");
        send(libc::SIGSEGV);
    });
    died_of(&output, libc::SIGSEGV);
    assert_eq!(reports(&output), 0);
}

#[test]
fn sent_bus_error_kills_by_default() {
    let output = child::run("overflow::tests::sent_bus_error_kills_by_default", || {
        set_action(libc::SIGBUS, libc::SIG_DFL, 0);
        pretend_to_run(0..usize::MAX, "reader");
        send(libc::SIGBUS);
    });
    died_of(&output, libc::SIGBUS);
    assert_eq!(reports(&output), 0);
}

#[test]
fn ignored_signal_stays_ignored_and_a_fault_still_kills() {
    let output =
        child::run("overflow::tests::ignored_signal_stays_ignored_and_a_fault_still_kills", || {
            set_action(libc::SIGSEGV, libc::SIG_IGN, 0);
            let stack = new_stack();
            pretend_to_run(stack.guard(), "reader");
            send(libc::SIGSEGV);
            eprintln!("lives");
            write_to(8);
        });
    died_of(&output, libc::SIGSEGV);
    assert_eq!(child::stderr(&output), "lives\n");
}

/// What the handlers below were called with.
static SIGNAL: AtomicUsize = AtomicUsize::new(0);
static ADDRESS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn plain_handler(signal: libc::c_int) {
    SIGNAL.store(signal as usize, Ordering::Relaxed);
}

/// Makes the page that was touched accessible, so that the program goes on.
extern "C" fn mending_handler(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    assert!(!context.is_null());
    SIGNAL.store(signal as usize, Ordering::Relaxed);
    // SAFETY: called by the kernel, or as by the kernel, for a fault.
    let address = unsafe { (*info).si_addr() };
    ADDRESS.store(address.addr(), Ordering::Relaxed);
    let page_bytes = crate::stack::page_bytes();
    let page = address.map_addr(|address| address & !(page_bytes - 1));
    // SAFETY: the test's own page.
    unsafe { libc::mprotect(page, page_bytes, libc::PROT_READ | libc::PROT_WRITE) };
}

#[test]
fn previous_handlers_are_called_as_before() {
    let output = child::run("overflow::tests::previous_handlers_are_called_as_before", || {
        set_action(libc::SIGBUS, plain_handler as *const () as usize, 0);
        let flags = libc::SA_SIGINFO | libc::SA_RESETHAND;
        set_action(libc::SIGSEGV, mending_handler as *const () as usize, flags);
        let stack = new_stack();
        pretend_to_run(stack.guard(), "reader");

        send(libc::SIGBUS);
        assert_eq!(SIGNAL.load(Ordering::Relaxed), libc::SIGBUS as usize);
        send(libc::SIGBUS);

        let page_bytes = crate::stack::page_bytes();
        // SAFETY: an inaccessible page of our own.
        let page = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(std::ptr::null_mut(), page_bytes, libc::PROT_NONE, flags, -1, 0)
        };
        // SAFETY: the C library's variable of this thread.
        unsafe { *libc::__errno_location() = 77 };
        write_to(page.addr() + 5);
        // SAFETY: as above.
        assert_eq!(unsafe { *libc::__errno_location() }, 77);
        assert_eq!(SIGNAL.load(Ordering::Relaxed), libc::SIGSEGV as usize);
        assert_eq!(ADDRESS.load(Ordering::Relaxed), page.addr() + 5);
        eprintln!("mended");
        // SA_RESETHAND: once only.
        write_to(8);
    });
    died_of(&output, libc::SIGSEGV);
    assert_eq!(child::stderr(&output), "mended\n");
}

/// A crash reporter that was there first gets to see the overflow, after our line.
#[test]
fn previous_handler_sees_an_overflow_too() {
    extern "C" fn reporter(_: libc::c_int) {
        // SAFETY: the kernel reads a constant.
        unsafe { libc::write(2, c"reporter\n".as_ptr().cast(), 9) };
        set_action(libc::SIGSEGV, libc::SIG_DFL, 0);
    }
    let output = child::run("overflow::tests::previous_handler_sees_an_overflow_too", || {
        set_action(libc::SIGSEGV, reporter as *const () as usize, libc::SA_ONSTACK);
        let stack = new_stack();
        let _signal_stack = SignalStack::new().unwrap();
        pretend_to_run(stack.guard(), "reader");
        write_to(stack.guard().start);
    });
    died_of(&output, libc::SIGSEGV);
    assert_eq!(reports(&output), 1);
    assert!(child::stderr(&output).ends_with("stack_size.\nreporter\n"));
}

fn present_signal_stack() -> (usize, usize, libc::c_int) {
    let mut present = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: 0, ss_size: 0 };
    // SAFETY: the kernel writes to our own variable.
    let answer = unsafe { libc::sigaltstack(std::ptr::null(), &mut present) };
    assert_eq!(answer, 0);
    (present.ss_sp.addr(), present.ss_size, present.ss_flags)
}

#[test]
fn signal_stack_is_large_enough_and_gives_way_to_the_one_before() {
    std::thread::spawn(|| {
        let before = present_signal_stack();
        let signal_stack = SignalStack::new().unwrap();
        let (bottom, bytes, flags) = present_signal_stack();
        assert_ne!(bottom, before.0);
        // SAFETY: plain numbers.
        assert!(bytes >= (16 << 10) + unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize);
        assert_eq!(flags, 0);
        drop(signal_stack);
        assert_eq!(present_signal_stack(), before);
    })
    .join()
    .unwrap();
}
