//! One question is in flight once, however many ask it at the same time.
//!
//! ```text
//!              the first: leads                    all others: wait
//!   Vacant -----------------------> Led ------------------------------> Done: everybody's
//!      ^                             |
//!      '-- the leader is cancelled --'   one of those who wait leads in its place
//! ```
//!
//! A leader works in its own frame, under its own cancel and limits; what ends it ends nobody
//! else's wait. Those who wait may leave at any time, and the last one to leave takes the flight down.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::ErrorKind;
use super::exchange::failure;
use crate::wait::{Reason, WaitQueue};
use crate::worker::Worker;
use crate::{current, io_handle};

pub(crate) struct Flights<K, T> {
    flights: Mutex<HashMap<K, Entry<T>>>,
}

struct Entry<T> {
    flight: Arc<Flight<T>>,
    passengers: usize,
}

struct Flight<T> {
    state: Mutex<State<T>>,
    waiting: WaitQueue,
}

enum State<T> {
    Vacant,
    Led,
    Done(T),
}

/// What a caller came to be.
enum Role<T> {
    Leader,
    Follower,
    Arrived(T),
}

impl<K: Hash + Eq + Clone, T: Clone> Flights<K, T> {
    pub(crate) fn new() -> Flights<K, T> {
        Flights { flights: Mutex::new(HashMap::new()) }
    }

    /// What `work` returns, to this caller or to another with the same key who works already.
    /// `waited` is called if it was another.
    ///
    /// # Errors
    ///
    /// What ended the wait from outside, and errors of `work`, which are about this caller alone.
    pub(crate) fn join(
        &self,
        key: &K,
        waited: impl Fn(),
        work: impl Fn() -> Result<T, ErrorKind>,
    ) -> Result<T, ErrorKind> {
        let passage = self.board(key);
        let mut is_counted = false;
        loop {
            match passage.flight.role() {
                Role::Arrived(value) => return Ok(value),
                Role::Leader => {
                    let lead = Lead { flight: &passage.flight };
                    let value = work()?;
                    *lock(&passage.flight.state) = State::Done(value.clone());
                    passage.land();
                    drop(lead);
                    return Ok(value);
                }
                // As any wait for the network.
                Role::Follower if current::worker().is_some_and(Worker::is_unwinding) => {
                    return Err(failure(io_handle::unwinding()));
                }
                Role::Follower => {
                    if !is_counted {
                        waited();
                        is_counted = true;
                    }
                    let is_over = || !matches!(*lock(&passage.flight.state), State::Led);
                    passage.flight.waiting.wait_for(is_over, Reason::LOOK_UP).map_err(failure)?;
                }
            }
        }
    }

    fn board<'a>(&'a self, key: &'a K) -> Passage<'a, K, T> {
        let mut flights = lock(&self.flights);
        let entry = flights.entry(key.clone()).or_insert_with(|| {
            let flight = Flight { state: Mutex::new(State::Vacant), waiting: WaitQueue::new() };
            Entry { flight: Arc::new(flight), passengers: 0 }
        });
        entry.passengers += 1;
        Passage { flights: self, key, flight: Arc::clone(&entry.flight) }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        lock(&self.flights).len()
    }
}

impl<T: Clone> Flight<T> {
    fn role(&self) -> Role<T> {
        let mut state = lock(&self.state);
        match &*state {
            State::Done(value) => Role::Arrived(value.clone()),
            State::Led => Role::Follower,
            State::Vacant => {
                *state = State::Led;
                Role::Leader
            }
        }
    }
}

/// Leads, until this is dropped.
struct Lead<'a, T> {
    flight: &'a Flight<T>,
}

impl<T> Drop for Lead<'_, T> {
    fn drop(&mut self) {
        let mut state = lock(&self.flight.state);
        if let State::Led = *state {
            *state = State::Vacant;
        }
        drop(state);
        // All of them: whom we woke alone might be cancelled before it leads.
        self.flight.waiting.wake_all();
    }
}

/// A place in a flight.
struct Passage<'a, K: Hash + Eq, T> {
    flights: &'a Flights<K, T>,
    key: &'a K,
    flight: Arc<Flight<T>>,
}

impl<K: Hash + Eq, T> Passage<'_, K, T> {
    /// Those who come from now on begin anew.
    fn land(&self) {
        let mut flights = lock(&self.flights.flights);
        if self.entry(&mut flights).is_some() {
            flights.remove(self.key);
        }
    }

    /// Ours, unless it has landed; there may be a later one of the same key.
    fn entry<'m>(&self, flights: &'m mut HashMap<K, Entry<T>>) -> Option<&'m mut Entry<T>> {
        flights.get_mut(self.key).filter(|entry| Arc::ptr_eq(&entry.flight, &self.flight))
    }
}

impl<K: Hash + Eq, T> Drop for Passage<'_, K, T> {
    fn drop(&mut self) {
        let mut flights = lock(&self.flights.flights);
        let Some(entry) = self.entry(&mut flights) else { return };
        entry.passengers -= 1;
        if entry.passengers == 0 {
            flights.remove(self.key);
        }
    }
}

/// Nothing in here panics while a lock is held; a coroutine that unwinds on this thread poisons it
/// all the same.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::sync::oneshot;
    use crate::{Builder, thread, time};

    type Numbers = Flights<&'static str, usize>;

    /// Joins a flight, and counts who waits.
    fn join(
        flights: &Numbers,
        waiting: &AtomicUsize,
        work: impl Fn() -> Result<usize, ErrorKind>,
    ) -> Result<usize, ErrorKind> {
        let waited = || {
            waiting.fetch_add(1, Ordering::SeqCst);
        };
        flights.join(&"key", waited, work)
    }

    fn until(condition: impl Fn() -> bool) {
        while !condition() {
            thread::yield_now();
        }
    }

    #[test]
    fn all_get_what_one_works_for() {
        crate::run(|| {
            let (flights, waiting, works) =
                (Numbers::new(), AtomicUsize::new(0), AtomicUsize::new(0));
            thread::scope(|scope| {
                for _ in 0..100 {
                    scope.spawn(|| {
                        let work = || {
                            works.fetch_add(1, Ordering::SeqCst);
                            until(|| waiting.load(Ordering::SeqCst) == 99);
                            Ok(7)
                        };
                        assert_eq!(join(&flights, &waiting, work).unwrap(), 7);
                    });
                }
            });
            assert_eq!(works.load(Ordering::SeqCst), 1);
            assert_eq!(flights.len(), 0);
            assert_eq!(join(&flights, &waiting, || Ok(8)).unwrap(), 8, "it begins anew");
        });
    }

    /// DNS-7: whatever ends the leader's wait, another leads.
    #[test]
    fn a_leader_that_is_cancelled_hands_over() {
        let runtime = Builder::new().workers(2).build().unwrap();
        let (flights, waiting) = (Arc::new(Numbers::new()), Arc::new(AtomicUsize::new(0)));
        let (started, is_started) = oneshot::channel::<()>();
        let (ours, theirs) =
            ((Arc::clone(&flights), Arc::clone(&waiting)), Mutex::new(Some(started)));
        let leader = runtime.spawn(move || {
            join(&ours.0, &ours.1, || {
                lock(&theirs).take().unwrap().send(()).unwrap();
                thread::sleep(Duration::from_secs(3600));
                Ok(1)
            })
        });
        is_started.recv().unwrap();
        let followers = [(); 5].map(|()| {
            let (flights, waiting) = (Arc::clone(&flights), Arc::clone(&waiting));
            runtime.spawn(move || join(&flights, &waiting, || Ok(2)).unwrap())
        });
        until(|| waiting.load(Ordering::SeqCst) == 5);
        // Two that wait leave before; neither may take the hand-over along.
        followers[0].cancel();
        leader.cancel();
        followers[1].cancel();
        assert!(leader.join().is_err());
        for follower in followers.into_iter().skip(2) {
            assert_eq!(follower.join().unwrap(), 2);
        }
        until(|| flights.len() == 0);
    }

    #[test]
    fn a_follower_leaves_when_its_time_is_over_and_nobody_else_does() {
        crate::run(|| {
            let (flights, waiting) = (Numbers::new(), AtomicUsize::new(0));
            let (started, is_started) = oneshot::channel::<()>();
            let (done, is_done) = oneshot::channel::<()>();
            let ends = Mutex::new(Some((started, is_done)));
            thread::scope(|scope| {
                let leader = scope.spawn(|| {
                    join(&flights, &waiting, || {
                        let (started, is_done) = lock(&ends).take().unwrap();
                        started.send(()).unwrap();
                        is_done.recv().unwrap();
                        Ok(1)
                    })
                });
                is_started.recv().unwrap();
                let late = time::timeout(Duration::from_millis(5), || {
                    join(&flights, &waiting, || unreachable!("another leads"))
                });
                assert!(matches!(late, Ok(Err(ErrorKind::Interrupted(_)))), "{late:?}");
                done.send(()).unwrap();
                assert_eq!(leader.join().unwrap().unwrap(), 1);
            });
            assert_eq!(flights.len(), 0);
        });
    }

    #[test]
    fn errors_about_one_caller_are_its_own() {
        let (flights, waiting) = (Numbers::new(), AtomicUsize::new(0));
        let cut = || Err(ErrorKind::Interrupted(Arc::new(std::io::ErrorKind::TimedOut.into())));
        assert!(join(&flights, &waiting, cut).is_err());
        assert_eq!(flights.len(), 0);
        assert_eq!(join(&flights, &waiting, || Ok(3)).unwrap(), 3);
    }
}
