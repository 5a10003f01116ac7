use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use super::advice::is_resident;
use super::guard::GuardKind;
use super::pool::StackStats;
use super::size::{Geometry, MAXIMUM_BYTES, MINIMUM_BYTES, SizeClass, page_bytes};
use super::*;
use crate::child;

const KIB: usize = 1024;

fn pool(bytes: usize) -> Arc<StackPool> {
    Arc::new(StackPool::new(bytes).unwrap())
}

fn stack(cache: &StackCache) -> Stack {
    cache.take(cache.reserve(None).unwrap())
}

/// Whether the kernel can read the byte, asked without touching it ourselves.
fn readable(address: usize) -> bool {
    let mut ends = [0; 2];
    // SAFETY: the kernel writes two descriptors to our own array.
    let answer = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) };
    assert_eq!(answer, 0);
    // SAFETY: only the kernel follows the pointer, and it reports a bad one.
    let written = unsafe { libc::write(ends[1], address as *const libc::c_void, 1) };
    let error = io::Error::last_os_error();
    // SAFETY: our own descriptors.
    unsafe { (libc::close(ends[0]), libc::close(ends[1])) };
    assert!(written == 1 || error.raw_os_error() == Some(libc::EFAULT), "{error}");
    written == 1
}

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

fn fill(stack: &Stack, bytes: usize) {
    // SAFETY: within the stack, on which nobody runs.
    unsafe { std::ptr::write_bytes(stack.top().wrapping_sub(bytes), 0xa5, bytes) };
}

fn check_guard(stack: &Stack) {
    let guard = stack.guard();
    for address in guard.clone().step_by(page_bytes()) {
        assert!(!readable(address), "guard page at {address:#x}");
    }
    assert!(!readable(guard.end - 1));
    assert!(readable(guard.end));
    assert!(readable(stack.top().addr() - 1));
}

#[test]
fn size_is_rounded_up_by_at_most_a_quarter() {
    let mut bytes = MINIMUM_BYTES;
    let mut classes = HashSet::new();
    while bytes <= MAXIMUM_BYTES {
        for wish in
            [bytes, bytes + 1, bytes * 5 / 4 - 1].into_iter().filter(|w| *w <= MAXIMUM_BYTES)
        {
            let class = SizeClass::holding(wish).unwrap();
            classes.insert(class.number());
            assert!((class.number() as usize) < SizeClass::COUNT);
            assert!(class.bytes() >= wish && class.bytes() <= wish + wish / 4, "{wish}");
            assert_eq!(SizeClass::holding(class.bytes()).unwrap(), class);
        }
        bytes += bytes / 7;
    }
    assert_eq!(classes.len(), SizeClass::COUNT);
    assert_eq!(SizeClass::holding(0).unwrap().bytes(), MINIMUM_BYTES);
    assert_eq!(SizeClass::holding(MAXIMUM_BYTES).unwrap().bytes(), MAXIMUM_BYTES);
}

#[test]
fn absurd_size_is_refused_with_the_largest_that_is_not() {
    for error in [
        StackPool::new(MAXIMUM_BYTES + 1).unwrap_err(),
        pool(64 * KIB).reserve(Some(usize::MAX)).unwrap_err(),
        StackCache::new(pool(64 * KIB)).reserve(Some(usize::MAX)).unwrap_err(),
    ] {
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("1073741824"), "{error}");
        assert!(error.to_string().contains("stack_size"), "{error}");
    }
}

#[test]
fn stack_has_the_asked_bytes_whatever_its_colour() {
    for bytes in [1, 16 * KIB, 64 * KIB, 100 * KIB, 128 * KIB, 256 * KIB, 1 << 20] {
        let pool = pool(256 * KIB);
        let mut colours = HashSet::new();
        for _ in 0..40 {
            let stack = StackCache::new(pool.clone()).take(pool.reserve(Some(bytes)).unwrap());
            assert!(stack.size() >= bytes);
            assert!(stack.top().addr() - stack.bottom().addr() >= stack.size());
            assert_eq!(stack.top().addr() % 64, 0);
            assert_eq!(stack.bottom().addr() % page_bytes(), 0);
            colours.insert(stack.top().addr() % 1024);
            let pages =
                if bytes < 128 * KIB && cfg!(not(target_arch = "riscv64")) { 1 } else { 16 };
            if page_bytes() == 4096 {
                assert_eq!(stack.guard().len(), pages * 4096);
            }
        }
        assert_eq!(colours.len(), 16);
    }
}

#[test]
fn slots_are_an_odd_number_of_pages() {
    let mut bytes = MINIMUM_BYTES;
    while bytes < MAXIMUM_BYTES {
        let geometry = Geometry::of(SizeClass::holding(bytes).unwrap());
        assert_eq!(geometry.slot_bytes / page_bytes() % 2, 1);
        bytes += bytes / 4;
    }
}

#[test]
fn every_slot_of_a_slab_has_its_guard() {
    for kind in [guard::best(), GuardKind::Protected] {
        let pool = StackPool::with_guards(64 * KIB, kind).unwrap();
        let stacks: Vec<_> = (0..200).map(|_| pool.reserve(None).unwrap()).collect();
        stacks.iter().for_each(|reserved| check_guard(&reserved.stack));
        let expected = if kind == GuardKind::Protected { pool.stats().mapped_slots } else { 0 };
        assert_eq!(pool.stats().protected_slots, expected);
    }
}

#[test]
fn reuse_is_last_in_first_out() {
    let pool = pool(64 * KIB);
    let cache = StackCache::new(pool.clone());
    let stacks: Vec<_> = (0..10).map(|_| stack(&cache)).collect();
    let tops: Vec<_> = stacks.iter().map(Stack::top).collect();
    stacks.into_iter().for_each(|stack| cache.give(stack));
    let again: Vec<_> = (0..10).map(|_| stack(&cache)).collect();
    let tops_again: Vec<_> = again.iter().map(Stack::top).collect();
    assert_eq!(tops_again, tops.into_iter().rev().collect::<Vec<_>>());
    again.into_iter().for_each(|stack| cache.give(stack));
}

/// A burst of spawns that each finish at once must run on one warm stack, not on as many as were
/// reserved.
#[test]
fn burst_of_short_coroutines_runs_on_one_stack() {
    let pool = pool(64 * KIB);
    let cache = StackCache::new(pool.clone());
    let burst: Vec<_> = (0..1000).map(|_| cache.reserve(None).unwrap()).collect();
    let mut tops = HashSet::new();
    for reserved in burst {
        let stack = cache.take(reserved);
        tops.insert(stack.top());
        cache.give(stack);
    }
    assert!(tops.len() <= 2, "{} stacks were used", tops.len());
}

#[test]
fn promise_is_kept_by_another_worker_and_after_its_own_is_gone() {
    let pool = pool(64 * KIB);
    let other = StackCache::new(pool.clone());
    let cache = StackCache::new(pool.clone());
    let promises: Vec<_> = (0..300).map(|_| cache.reserve(None).unwrap()).collect();
    drop(cache);
    let mapped = pool.stats().mapped_slots;
    let stacks: Vec<_> = promises.into_iter().map(|reserved| other.take(reserved)).collect();
    let tops: HashSet<_> = stacks.iter().map(Stack::top).collect();
    assert_eq!(tops.len(), 300);
    assert_eq!(pool.stats().mapped_slots, mapped);
    stacks.into_iter().for_each(|stack| other.give(stack));
}

#[test]
fn promise_dropped_after_its_pool_is_harmless() {
    let pool = pool(64 * KIB);
    let late = pool.reserve(None).unwrap();
    let in_time = pool.reserve(None).unwrap();
    assert_eq!(pool.stats().lent_slots(), 2);
    drop(in_time);
    assert_eq!(pool.stats().lent_slots(), 1);
    drop(pool);
    assert!(readable(late.stack.bottom().addr()));
    let bottom = late.stack.bottom().addr();
    drop(late);
    // Leaked on purpose; another pool, with the same depots, does not get to see it.
    assert!(readable(bottom));
    let next = self::pool(64 * KIB);
    assert_eq!(next.stats(), StackStats::default());
}

#[test]
fn stack_of_another_pool_is_refused_before_slots_are_mixed_up() {
    let (ours, theirs) = (pool(64 * KIB), pool(64 * KIB));
    let reserved = theirs.reserve(None).unwrap();
    assert!(theirs.owns(&reserved.stack));
    let foreign = reserved.into_slot();
    let gave_back = || ours.take_back(std::iter::once(foreign));
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(gave_back));
    assert!(refused.is_err());
    assert_eq!(ours.stats(), StackStats::default());
}

/// Every slot is in exactly one place, whatever happens to it.
#[test]
fn accounts_balance_under_random_use() {
    let pool = pool(32 * KIB);
    let sizes = [None, Some(32 * KIB), Some(48 * KIB), Some(256 * KIB)];
    let mut caches: Vec<_> = (0..3).map(|_| StackCache::new(pool.clone())).collect();
    let mut promises = Vec::new();
    let mut stacks: Vec<(usize, Stack)> = Vec::new();
    let mut taken = HashSet::new();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    for step in 0..60_000 {
        let worker = random(caches.len());
        // Grows for a while, then shrinks.
        let grows = step / 10_000 % 2 == 0;
        match random(10) {
            0..4 if grows => promises.push(caches[worker].reserve(sizes[random(4)]).unwrap()),
            4 => promises.push(pool.reserve(sizes[random(4)]).unwrap()),
            5..7 if !promises.is_empty() => {
                let promise = promises.swap_remove(random(promises.len()));
                let stack = caches[worker].take(promise);
                assert!(taken.insert(stack.top()), "a stack was given to two");
                stacks.push((worker, stack));
            }
            0..9 if !grows && !stacks.is_empty() => {
                let (worker, stack) = stacks.swap_remove(random(stacks.len()));
                assert!(taken.remove(&stack.top()));
                caches[worker].give(stack);
            }
            9 if random(10) == 0 => drop(promises.pop()),
            9 if random(100) == 0 => {
                caches[worker].tick();
                caches[worker].trim();
            }
            9 if random(300) == 0 && !stacks.iter().any(|(owner, _)| *owner == worker) => {
                caches[worker] = StackCache::new(pool.clone());
            }
            _ => {}
        }
        if step % 100 == 0 {
            let idle: usize = caches.iter().map(StackCache::idle).sum();
            let lent = pool.stats().lent_slots();
            assert_eq!(lent, idle + promises.len() + stacks.len());
        }
    }
    drop(promises);
    stacks.drain(..).for_each(|(worker, stack)| caches[worker].give(stack));
    drop(caches);
    assert_eq!(pool.stats().lent_slots(), 0);
}

#[test]
fn trim_gives_the_memory_of_unneeded_stacks_back_and_keeps_guards() {
    let pool = pool(64 * KIB);
    let cache = StackCache::new(pool.clone());
    let stacks: Vec<_> = (0..500).map(|_| stack(&cache)).collect();
    stacks.iter().for_each(|stack| fill(stack, 60 * KIB));
    let tops: Vec<_> = stacks.iter().map(Stack::top).collect();
    assert!(tops.iter().all(|top| is_resident(page_of(*top))));
    stacks.into_iter().for_each(|stack| cache.give(stack));
    assert_eq!(cache.trim(), Warm::Needed, "the demand of a moment ago is remembered");
    assert!(cache.idle() > 0);
    let mut ticks = 0;
    while cache.trim() != Warm::Nothing {
        cache.tick();
        ticks += 1;
        assert!(ticks < 200, "demand is never forgotten");
    }
    assert!(ticks > 5);
    assert_eq!(cache.idle(), 0);
    assert_eq!(pool.stats().cold_slots, pool.stats().mapped_slots);
    assert!(!tops.iter().any(|top| is_resident(page_of(*top))));
    let promises: Vec<_> = (0..500).map(|_| pool.reserve(None).unwrap()).collect();
    promises.iter().for_each(|reserved| check_guard(&reserved.stack));
}

#[test]
fn trim_says_when_there_is_more_to_empty_at_once() {
    let pool = pool(16 * KIB);
    let cache = StackCache::new(pool.clone());
    let stacks: Vec<_> = (0..9000).map(|_| stack(&cache)).collect();
    stacks.into_iter().for_each(|stack| cache.give(stack));
    // An eighth is forgotten, which is more than one batch.
    cache.tick();
    assert_eq!(cache.trim(), Warm::Surplus);
    assert_eq!(cache.trim(), Warm::Needed);
    assert!(pool.stats().cold_slots > 1024);
}

#[test]
fn trim_keeps_the_top_page_of_stacks_in_demand() {
    let pool = pool(64 * KIB);
    let cache = StackCache::new(pool.clone());
    let stacks: Vec<_> = (0..40).map(|_| stack(&cache)).collect();
    stacks.iter().for_each(|stack| fill(stack, 40 * KIB));
    stacks.into_iter().for_each(|stack| cache.give(stack));
    cache.tick();
    assert_eq!(cache.trim(), Warm::Needed);
    assert!(cache.idle() >= 32);
    for _ in 0..cache.idle() {
        let stack = stack(&cache);
        assert!(is_resident(page_of(stack.top())));
        assert!(!is_resident(
            stack
                .top()
                .wrapping_sub(2 * page_bytes())
                .map_addr(|address| address & !(page_bytes() - 1))
        ));
        // SAFETY: nobody runs on it.
        let high_water = unsafe { stack.high_water() };
        assert!(high_water > 0 && high_water <= page_bytes(), "{high_water}");
    }
}

fn page_of(top: *mut u8) -> *mut u8 {
    top.wrapping_sub(1).map_addr(|address| address & !(page_bytes() - 1))
}

#[test]
fn high_water_is_exact_to_a_word_and_brings_no_page_in() {
    let pool = pool(256 * KIB);
    let cache = StackCache::new(pool.clone());
    for bytes in [0, 8, 64, 4096, 10_000, 200 * KIB, 256 * KIB] {
        let stack = stack(&cache);
        if bytes > 0 {
            // Only the deepest word, as by a large frame that leaves holes.
            let deepest = stack.top().wrapping_sub(bytes).cast::<u64>();
            // SAFETY: within the stack, aligned, and nobody runs there.
            unsafe { deepest.write(1) };
        }
        // SAFETY: nobody runs on it.
        assert_eq!(unsafe { stack.high_water() }, bytes);
        let resident = (stack.bottom().addr()..stack.top().addr())
            .step_by(page_bytes())
            .filter(|page| is_resident(*page as *mut u8))
            .count();
        assert_eq!(resident, usize::from(bytes > 0));
    }
}

/// Also the proof that a slab's guards cost no mappings, where the kernel can mark them.
#[test]
#[cfg_attr(cosocket_asan, ignore = "the sanitizer maps memory of its own")]
fn many_stacks_take_few_mappings_and_none_after_the_pool() {
    let output =
        child::run("stack::tests::many_stacks_take_few_mappings_and_none_after_the_pool", || {
            let before = mappings();
            let pool = pool(64 * KIB);
            let stacks: Vec<_> = (0..20_000).map(|_| pool.reserve(None).unwrap()).collect();
            stacks.iter().step_by(7).for_each(|reserved| fill(&reserved.stack, 100));
            let with_stacks = mappings();
            println!("{before} mappings before, {with_stacks} with 20000 stacks");
            if guard::best() == GuardKind::Marked {
                assert!(with_stacks < before + 20, "{before} -> {with_stacks}");
            }
            let bottom = stacks[0].stack.bottom().addr();
            drop(stacks);
            drop(pool);
            assert!(!readable(bottom));
            let after = mappings();
            assert!(after < before + 10, "{before} -> {after}");
        });
    assert!(output.status.success(), "{}", child::stderr(&output));
}

#[test]
#[cfg_attr(cosocket_asan, ignore = "the sanitizer maps memory of its own")]
fn pool_keeps_slabs_that_have_a_stack_out() {
    // Alone in its process: another test's mapping may take the place of one that is gone.
    let output = child::run("stack::tests::pool_keeps_slabs_that_have_a_stack_out", || {
        let pool = pool(64 * KIB);
        let cache = StackCache::new(pool.clone());
        let mut stacks = (0..100).map(|_| stack(&cache)).collect::<Vec<_>>().into_iter();
        let first_slab = stacks.next().unwrap().bottom().addr();
        let mut second_slab = 0;
        for stack in stacks {
            second_slab = stack.bottom().addr();
            cache.give(stack);
        }
        drop(cache);
        drop(pool);
        assert!(readable(first_slab));
        assert!(!readable(second_slab));
    });
    assert!(output.status.success(), "{}", child::stderr(&output));
}

#[test]
#[cfg_attr(cosocket_asan, ignore = "the sanitizer maps memory of its own")]
fn exhausted_address_space_is_an_error_that_names_the_limit() {
    let output = child::run(
        "stack::tests::exhausted_address_space_is_an_error_that_names_the_limit",
        || {
            let pool = pool(256 * KIB);
            let first = pool.reserve(None).unwrap();
            if !limit_address_space(500 << 20) {
                return eprintln!("skipped: an emulator that does not limit address space");
            }
            let mut stacks = vec![first];
            let error = loop {
                match pool.reserve(None) {
                    Ok(stack) => stacks.push(stack),
                    Err(error) => break error,
                }
            };
            // Smaller and smaller slabs use what there is.
            assert!(stacks.len() * 324 * KIB > 350 << 20, "{} stacks", stacks.len());
            assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
            let text = error.to_string();
            assert!(text.contains("stack of 262144 bytes"), "{text}");
            assert!(text.contains("RLIMIT_AS"), "{text}");
            assert!(text.contains("Builder::stack_size"), "{text}");
            // A stack given back is lent again.
            stacks.pop();
            drop(pool.reserve(None).unwrap());
        },
    );
    assert!(output.status.success(), "{}", child::stderr(&output));
}

#[test]
#[cfg_attr(cosocket_asan, ignore = "the sanitizer maps memory of its own")]
fn protected_guards_leave_mappings_to_the_program_and_name_the_sysctl() {
    let output = child::run(
        "stack::tests::protected_guards_leave_mappings_to_the_program_and_name_the_sysctl",
        || {
            // As if others had the rest; a limit of millions would take long to use up.
            let most = guard::most_protected_slots(guard::max_map_count());
            guard::claim_mappings(most - 3001).unwrap();
            let pool = StackPool::with_guards(16 * KIB, GuardKind::Protected).unwrap();
            let mut stacks = Vec::new();
            let before = mappings();
            let error = loop {
                match pool.reserve(None) {
                    Ok(stack) => stacks.push(stack),
                    Err(error) => break error,
                }
            };
            assert_eq!(stacks.len(), 3001);
            let used = mappings() - before;
            assert!((2 * 3001 - 1..=2 * 3001 + 10).contains(&used), "{used} mappings");
            assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
            assert!(error.to_string().contains("vm.max_map_count"), "{error}");
            check_guard(&stacks.last().unwrap().stack);
            drop(stacks);
            drop(pool);
            assert!(mappings() < before + 10);
            // The claim on mappings went with the pool.
            StackPool::with_guards(16 * KIB, GuardKind::Protected).unwrap().reserve(None).unwrap();
        },
    );
    assert!(output.status.success(), "{}", child::stderr(&output));
}

/// Whether it worked: qemu-user accepts the limit and ignores it.
fn limit_address_space(bytes: libc::rlim_t) -> bool {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: the kernel reads our own variable.
    let answer = unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) };
    assert_eq!(answer, 0);
    let mut present = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes to our own variable.
    let answer = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut present) };
    answer == 0 && present.rlim_cur == bytes
}

/// Locked memory cannot be marked: such a slab is protected instead.
#[test]
#[cfg_attr(cosocket_asan, ignore = "the sanitizer maps memory of its own")]
fn locked_memory_is_guarded_too() {
    let output = child::run("stack::tests::locked_memory_is_guarded_too", || {
        let pool = pool(16 * KIB);
        // SAFETY: plain numbers.
        if unsafe { libc::mlockall(libc::MCL_FUTURE) } != 0 {
            let error = io::Error::last_os_error();
            assert!(std::env::var_os("CI").is_none(), "may not lock memory: {error}");
            return eprintln!("skipped: may not lock memory: {error}");
        }
        let reserved = pool.reserve(None).unwrap();
        assert_eq!(pool.stats().protected_slots, pool.stats().mapped_slots);
        check_guard(&reserved.stack);
    });
    assert!(output.status.success(), "{}", child::stderr(&output));
}
