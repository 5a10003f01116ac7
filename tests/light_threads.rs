//! What OpenResty's light threads, sleeps and semaphores do, with what we have for them: rows THR,
//! SLP and SEM of the behaviour table. Where order matters there is one worker, as in OpenResty.

mod socket_util;
mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cosocket::net::{TcpListener, TcpStream};
use cosocket::sync::{AcquireTimeoutError, Semaphore, WaitGroup, mpmc};
use cosocket::thread::{self, JoinHandle};
use cosocket::time::timeout;
use cosocket::{Cancelled, Cosocket, ErrorKind, UdpCosocket, spawn_local};
use socket_util::{everywhere, full_listener, turn, until};
use support::on_workers;

const LONG: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(2);

/// What was said, in that order.
#[derive(Clone, Default)]
struct Script(Rc<RefCell<Vec<&'static str>>>);

impl Script {
    fn say(&self, word: &'static str) {
        self.0.borrow_mut().push(word);
    }

    fn text(&self) -> String {
        self.0.borrow().join(" ")
    }
}

/// `ngx.thread.spawn`: the child runs first, up to its first wait.
fn spawn_as_openresty<T: 'static>(f: impl FnOnce() -> T + 'static) -> cosocket::LocalJoinHandle<T> {
    let handle = spawn_local(f);
    thread::yield_now();
    handle
}

/// THR-1; section 2, item 163, and 093:1-4.
#[test]
fn a_child_runs_up_to_its_first_wait_before_its_parent_goes_on() {
    on_workers(1, || {
        let script = Script::default();
        let child = script.clone();
        script.say("before");
        let handle = spawn_as_openresty(move || {
            child.say("child");
            thread::sleep(SOON);
            child.say("child again");
            7
        });
        script.say("after");
        assert_eq!(handle.join().unwrap(), 7);
        assert_eq!(script.text(), "before child after child again");
    });
}

/// THR-1, THR-2; section 2, item 164 (093:17).
#[test]
fn two_children_and_their_parent_take_turns() {
    on_workers(1, || {
        let script = Script::default();
        let thrice = |words: [&'static str; 3]| {
            let script = script.clone();
            move || {
                script.say(words[0]);
                thread::yield_now();
                script.say(words[1]);
                thread::yield_now();
                script.say(words[2]);
            }
        };
        let f = spawn_as_openresty(thrice(["f1", "f2", "f3"]));
        let g = spawn_as_openresty(thrice(["g1", "g2", "g3"]));
        script.say("done");
        f.join().unwrap();
        g.join().unwrap();
        assert_eq!(script.text(), "f1 g1 f2 done g2 f3 g3");
    });
}

/// THR-3: a child's panic is its own; a body that fails ends its children, their connections too.
#[test]
fn the_body_of_a_scope_decides_for_its_children() {
    cosocket::run(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let finished = AtomicBool::new(false);
        thread::scope(|scope| {
            let fails = scope.spawn(|| support::panic_quietly("child"));
            let sibling = scope.spawn(|| finished.store(true, Ordering::Relaxed));
            fails.join().unwrap_err();
            sibling.join().unwrap();
        });
        assert!(finished.load(Ordering::Relaxed));
        let result: Result<(), &str> = thread::try_scope(|scope| {
            scope.spawn(move || {
                let server = server;
                let _ = server.peek(&mut [0]);
                Ok(())
            });
            turn();
            Err("the body")
        });
        assert_eq!(result, Err("the body"));
        assert_eq!(std::io::Read::read(&mut &client, &mut [0]).unwrap(), 0);
    });
}

/// THR-3; section 2, item 170 (094:5-11): whatever the others wait in when one ends it all;
/// `tests/dns/cosocket.rs` has a look-up.
#[test]
fn the_end_of_a_scope_ends_every_wait_in_it() {
    cosocket::run(|| {
        let (_full, black_hole, _clients) = full_listener();
        let (socket, _peer) = Cosocket::pair().unwrap();
        // Another, for the first of two to be ended closes its socket, and the other would be told.
        let (sending, _its_peer) = Cosocket::pair().unwrap();
        let datagrams = UdpCosocket::new();
        datagrams.bind("127.0.0.1", 0).unwrap();
        datagrams.set_timeout(Duration::MAX).unwrap();
        let connecting = Cosocket::new();
        for socket in [&socket, &sending, &connecting] {
            socket.set_timeout(Duration::MAX).unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let waits: [&(dyn Fn() + Sync); 7] = [
            &|| drop(connecting.connect(black_hole)),
            &|| drop(socket.receive_until("--").unwrap().chunk(4)),
            &|| drop(sending.send(vec![0; 8 << 20])),
            &|| drop(datagrams.receive_from(9)),
            &|| drop(listener.accept()),
            &|| thread::sleep(LONG),
            &thread::park,
        ];
        let drops = support::Drops::default();
        let result: Result<(), &str> = thread::try_scope(|scope| {
            let begun = WaitGroup::new();
            for wait in waits {
                let (begun, counted) = (begun.clone(), drops.clone());
                scope.spawn(move || -> Result<(), &str> {
                    let _counted = counted.counted();
                    drop(begun);
                    wait();
                    unreachable!("it was ended");
                });
            }
            begun.wait();
            turn();
            Err("exit")
        });
        assert_eq!(result, Err("exit"));
        assert_eq!(drops.count(), waits.len());
        assert_eq!(socket.receive_any(1).unwrap_err().kind(), ErrorKind::Closed);
    });
}

fn sleeper(delay: Duration, value: i32) -> JoinHandle<i32> {
    thread::spawn(move || {
        thread::sleep(delay);
        value
    })
}

/// THR-4; section 2, item 167 (098:13).
#[test]
fn the_first_to_end_is_waited_for_and_the_others_go_on() {
    everywhere(|| {
        let mut handles = vec![sleeper(LONG, 1), sleeper(SOON, 2), sleeper(LONG, 3)];
        assert_eq!(thread::wait_any(&mut handles), 1);
        assert_eq!(handles.swap_remove(1).join().unwrap(), 2);
        assert!(handles.iter().all(|handle| !handle.is_finished()));
        // A loser was not marked by the wait that it lost: it can be waited for again, and joined.
        handles[1].cancel();
        assert_eq!(thread::wait_any(&mut handles), 1);
        handles[0].cancel();
        for handle in handles {
            assert!(handle.join().unwrap_err().is::<Cancelled>());
        }
    });
}

/// THR-4, THR-6; section 2, items 166 and 167 (098:3,11): those that are over come in the order of
/// the arguments.
#[test]
fn those_that_are_over_keep_their_results_until_asked() {
    everywhere(|| {
        let mut handles: Vec<_> = (0..3).map(|n| thread::spawn(move || n)).collect();
        until(|| handles.iter().all(JoinHandle::is_finished));
        for expected in 0..3 {
            assert_eq!(thread::wait_any(&mut handles), 0);
            assert_eq!(handles.remove(0).join().unwrap(), expected);
        }
    });
}

/// THR-4: of one worker, of a scope, of many at once.
#[test]
fn all_kinds_of_handles_can_be_waited_for() {
    cosocket::run(|| {
        let end = Rc::new(Cell::new(false));
        let flag = Rc::clone(&end);
        let mut local = [spawn_local(thread::park), spawn_local(move || flag.set(true))];
        assert_eq!(thread::wait_any(&mut local), 1);
        assert!(end.get());
        local[0].thread().unpark();
        thread::scope(|scope| {
            let mut scoped = [scope.spawn(thread::park), scope.spawn(|| ())];
            assert_eq!(thread::wait_any(&mut scoped), 1);
            scoped[0].thread().unpark();
        });
        let mut many: Vec<_> =
            (0..200).map(|n| sleeper(Duration::from_micros(n * 7 % 100 * 20), 0)).collect();
        while !many.is_empty() {
            let index = thread::wait_any(&mut many);
            many.swap_remove(index).join().unwrap();
        }
    });
}

/// THR-4: nothing is left of a wait that was cut.
#[test]
fn a_wait_for_the_first_can_be_cut() {
    everywhere(|| {
        let mut handles = [sleeper(LONG, 1), sleeper(LONG, 2)];
        for _ in 0..3 {
            assert!(timeout(SOON, || thread::wait_any(&mut handles)).is_err());
        }
        handles[1].cancel();
        assert_eq!(thread::wait_any(&mut handles), 1);
        handles[0].cancel();
    });
    cosocket::run(|| {
        let handle = support::suspended(|| thread::wait_any(&mut [sleeper(LONG, 1)]));
        handle.cancel();
        support::assert_cancelled(handle.join());
    });
}

#[test]
#[should_panic(expected = "no coroutine to wait for")]
fn waiting_for_none_of_none_is_a_mistake() {
    thread::wait_any::<JoinHandle<()>>(&mut []);
}

/// THR-5; section 2, item 169 (127:1-4,8): whatever it waits in, its destructors run, once, and its
/// socket closes.
#[test]
fn a_killed_thread_is_unwound_out_of_any_wait() {
    cosocket::run(|| {
        support::assert_cancel_ends(|| thread::sleep(LONG));
        support::assert_cancel_ends(|| drop(sleeper(LONG, 1).join()));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        support::assert_cancel_ends(move || drop(listener.accept()));
        let finished = thread::spawn(|| 5);
        until(|| finished.is_finished());
        finished.cancel();
        assert_eq!(finished.join().unwrap(), 5);
    });
}

/// THR-5: grandchildren are not killed.
#[test]
fn children_of_a_killed_thread_go_on() {
    cosocket::run(|| {
        let (sender, receiver) = mpmc::channel();
        let handle = support::suspended(move || {
            thread::spawn(move || {
                thread::sleep(SOON);
                sender.send("here").unwrap();
            });
            thread::park();
        });
        handle.cancel();
        support::assert_cancelled(handle.join());
        assert_eq!(receiver.recv(), Ok("here"));
    });
}

/// THR-7
#[test]
fn a_wait_group_counts_down() {
    everywhere(|| {
        let group = WaitGroup::new();
        let guards: Vec<_> = (0..3).map(|_| group.clone()).collect();
        let mut guards = guards.into_iter();
        drop(guards.next());
        drop(guards.next());
        assert!(timeout(SOON, || group.clone().wait()).is_err());
        drop(guards);
        group.wait();
    });
}

/// THR-8
#[test]
fn a_closed_channel_is_drained_first() {
    everywhere(|| {
        let (sender, receiver) = mpmc::sync_channel(2);
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        assert!(sender.try_send(3).is_err());
        drop(sender);
        assert_eq!((receiver.recv(), receiver.recv()), (Ok(1), Ok(2)));
        receiver.recv().unwrap_err();
        let (sender, receiver) = mpmc::channel::<i32>();
        receiver.recv_timeout(SOON).unwrap_err();
        drop(receiver);
        sender.send(1).unwrap_err();
    });
}

/// SLP-1: no time is a turn of the loop, and all who are ready come before.
#[test]
fn a_sleep_of_no_time_is_one_turn_of_the_loop() {
    on_workers(1, || {
        let script = Script::default();
        let handles: Vec<_> = (0..3)
            .map(|_| {
                let script = script.clone();
                spawn_local(move || {
                    script.say("begin");
                    thread::sleep(Duration::ZERO);
                    script.say("middle");
                    thread::sleep(Duration::ZERO);
                    script.say("end");
                })
            })
            .collect();
        handles.into_iter().for_each(|handle| handle.join().unwrap());
        assert_eq!(script.text(), "begin begin begin middle middle middle end end end");
    });
}

/// SLP-1: I/O that is ready is seen in between.
#[test]
fn a_sleep_of_no_time_lets_io_be_seen() {
    on_workers(1, || {
        let (client, server) = support::connection();
        let reader = support::suspended(move || {
            let mut byte = [0];
            std::io::Read::read(&mut &server, &mut byte).unwrap();
            byte[0]
        });
        turn();
        std::io::Write::write_all(&mut &client, b"x").unwrap();
        for _ in 0..3 {
            thread::sleep(Duration::ZERO);
        }
        assert!(reader.is_finished());
        assert_eq!(reader.join().unwrap(), b'x');
    });
}

/// SEM-2, SEM-3: in the order of arrival; who posts goes on first.
#[test]
fn a_semaphore_serves_in_the_order_of_arrival() {
    on_workers(1, || {
        let (semaphore, script) = (Rc::new(Semaphore::new(0)), Script::default());
        let waiters: Vec<_> = ["1", "2", "3"]
            .map(|name| {
                let (semaphore, script) = (Rc::clone(&semaphore), script.clone());
                support::suspended(move || {
                    semaphore.acquire().unwrap().forget();
                    script.say(name);
                })
            })
            .into();
        semaphore.add_permits(3);
        script.say("posted");
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert_eq!(script.text(), "posted 1 2 3");
    });
}

/// SEM-1, SEM-2, SEM-4: what OpenResty's `count` says. Less than nothing to begin with does not
/// compile.
#[test]
fn the_count_of_a_semaphore_goes_below_zero_by_its_waiters() {
    on_workers(1, || {
        let semaphore = Rc::new(Semaphore::new(0));
        let count = || semaphore.available_permits() as i64 - semaphore.waiting() as i64;
        let timed_out = semaphore.acquire_timeout(Duration::ZERO).unwrap_err();
        assert_eq!(timed_out, AcquireTimeoutError::Timeout);
        assert_eq!(count(), 0);
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let semaphore = Rc::clone(&semaphore);
                support::suspended(move || semaphore.acquire().unwrap().forget())
            })
            .collect();
        assert_eq!(count(), -2);
        semaphore.add_permits(1);
        assert_eq!(count(), -1);
        semaphore.add_permits(2);
        assert_eq!(count(), 1);
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert_eq!(count(), 1);
    });
}

/// SEM-5: what was posted to one who is killed before it runs is not lost.
#[test]
fn a_permit_for_a_waiter_that_is_killed_comes_back() {
    on_workers(1, || {
        let semaphore = Arc::new(Semaphore::new(0));
        let waiter = support::suspended({
            let semaphore = Arc::clone(&semaphore);
            move || {
                let _permit = semaphore.acquire().unwrap();
                thread::park();
            }
        });
        semaphore.add_permits(1);
        waiter.cancel();
        support::assert_cancelled(waiter.join());
        assert_eq!(semaphore.available_permits(), 1);
        // The object outlives its waiters.
        let waiter = support::suspended({
            let semaphore = Arc::clone(&semaphore);
            move || semaphore.acquire_many(5).map(|permit| permit.forget())
        });
        drop(semaphore);
        waiter.cancel();
        support::assert_cancelled(waiter.join());
    });
}
