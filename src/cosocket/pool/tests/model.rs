//! Random schedules, step by step, beside a model that is too simple to be wrong: lists.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const SIZE: u32 = 3;
const WORKERS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    /// On a worker: takes an idle one, or a place and opens one.
    Connect(usize),
    /// A connect that fails.
    ConnectInVain(usize),
    /// One of those held is parked on a worker, with or without its place.
    Park(usize, usize),
    /// One that was opened without a pool.
    ParkStranger(usize),
    /// One of those held is closed.
    Close(usize),
    /// An idle one dies, and the watch hears of it, or not.
    Kill(usize),
    /// All that is idle expires.
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    let (worker, which) = (0..WORKERS, 0..8_usize);
    prop_oneof![
        4 => worker.clone().prop_map(Step::Connect),
        1 => worker.clone().prop_map(Step::ConnectInVain),
        4 => (which.clone(), worker.clone()).prop_map(|(which, worker)| Step::Park(which, worker)),
        1 => worker.prop_map(Step::ParkStranger),
        2 => which.clone().prop_map(Step::Close),
        1 => which.prop_map(Step::Kill),
        1 => Just(Step::Expire),
    ]
}

/// Lists.
#[derive(Default)]
struct Model {
    /// Parked, the longest ago first: on which worker, and which.
    idle: VecDeque<(usize, u32)>,
    /// Held.
    out: usize,
    evicted: Vec<u32>,
    dead: Vec<u32>,
}

impl Model {
    /// Which connection one who connects there gets; `None` for a fresh one.
    fn take(&mut self, worker: usize) -> Option<u32> {
        loop {
            let own = self.idle.iter().rposition(|(there, _)| *there == worker);
            let position = own.or(self.idle.len().checked_sub(1))?;
            let (_, number) = self.idle.remove(position).unwrap();
            if !self.dead.contains(&number) {
                return Some(number);
            }
            self.evicted.push(number);
        }
    }

    fn park(&mut self, worker: usize, number: u32) {
        self.idle.push_back((worker, number));
        if self.idle.len() > SIZE as usize {
            self.evicted.push(self.idle.pop_front().unwrap().1);
        }
    }

    fn is_full(&self, backlog: Option<u32>) -> bool {
        backlog.is_some() && self.idle.is_empty() && self.out >= SIZE as usize
    }
}

/// The pool, the model, and what is held of the pool.
struct Pair {
    world: Arc<World>,
    pools: Arc<Pools<Fake>>,
    key: Key,
    backlog: Option<u32>,
    held: Vec<(Fake, Ticket<Fake>)>,
    model: Model,
    opened: u32,
}

impl Pair {
    fn new(backlog: Option<u32>) -> Pair {
        Pair {
            world: Arc::default(),
            pools: pools(WORKERS),
            key: Key::new("a"),
            backlog,
            held: Vec::new(),
            model: Model::default(),
            opened: 0,
        }
    }

    fn settings(&self) -> Settings<()> {
        settings(SIZE, self.backlog)
    }

    fn fresh(&mut self) -> Fake {
        self.opened += 1;
        self.world.open(self.opened)
    }

    fn connect(&mut self, worker: usize, succeeds: bool) {
        let asked = Some(self.settings());
        let acquired = on_worker(worker, || acquire(&self.pools, &self.key, asked));
        if self.model.is_full(self.backlog) {
            assert!(matches!(acquired, Err(Refusal::TooManyWaiting)));
            return;
        }
        let Acquired { connection, mut ticket } = acquired.unwrap().unwrap();
        let expected = self.model.take(worker);
        assert_eq!(connection.as_ref().map(|connection| connection.number), expected);
        let connection = match connection {
            Some(connection) => connection,
            None if !succeeds => return,
            None => {
                ticket.set_connected();
                self.fresh()
            }
        };
        self.model.out += 1;
        self.held.push((connection, ticket));
    }

    fn take_held(&mut self, which: usize) -> Option<(Fake, Ticket<Fake>)> {
        let position = which.checked_rem(self.held.len())?;
        self.model.out -= 1;
        Some(self.held.swap_remove(position))
    }

    fn park(&mut self, worker: usize, connection: Fake, ticket: Option<Ticket<Fake>>) {
        let number = connection.number;
        let settings = self.settings();
        on_worker(worker, || {
            self.pools.park(&self.key, &settings, connection, ticket, None);
        });
        self.model.park(worker, number);
    }

    fn perform(&mut self, step: &Step) {
        match *step {
            Step::Connect(worker) => self.connect(worker, true),
            Step::ConnectInVain(worker) => self.connect(worker, false),
            Step::Park(which, worker) => {
                if let Some((connection, ticket)) = self.take_held(which) {
                    self.park(worker, connection, Some(ticket));
                }
            }
            Step::ParkStranger(worker) => {
                let stranger = self.fresh();
                self.park(worker, stranger, None);
            }
            Step::Close(which) => drop(self.take_held(which)),
            Step::Kill(which) => {
                if let Some(position) = which.checked_rem(self.model.idle.len()) {
                    let (_, number) = self.model.idle[position];
                    self.world.kill(number);
                    self.model.dead.push(number);
                }
            }
            Step::Expire => {
                self.pools.watch().go_round(clock::now() + 3600 * 1_000_000_000);
                self.model.evicted.extend(self.model.idle.drain(..).map(|(_, number)| number));
            }
        }
        self.compare();
    }

    fn compare(&self) {
        let mut evicted: Vec<u32> =
            self.world.evicted().into_iter().map(|(number, _)| number).collect();
        let mut expected = self.model.evicted.clone();
        evicted.sort_unstable();
        expected.sort_unstable();
        assert_eq!(evicted, expected);
        let total = self.pools.total();
        assert_eq!(total.idle as usize, self.model.idle.len());
        assert_eq!(total.in_use as usize, self.model.out);
        adds_up(&total);
        let is_empty = self.model.idle.is_empty() && self.model.out == 0;
        assert_eq!(self.pools.find(&self.key).is_none(), is_empty, "a pool lives while it is used");
    }
}

pub(super) fn adds_up(total: &PoolMetrics) {
    let PoolMetrics { idle, in_use, connecting, hits, misses, opened, failed, .. } = *total;
    assert_eq!(misses, opened + failed + connecting, "{total:?}");
    assert_eq!(total.parked, hits + idle + total.closed_idle(), "{total:?}");
    let gone = total.closed + total.closed_idle();
    assert_eq!(opened + total.adopted, in_use + idle + gone, "{total:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_schedules(
        has_backlog in any::<bool>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut pair = Pair::new(has_backlog.then_some(0));
        steps.iter().for_each(|step| pair.perform(step));
        let opened = pair.opened as usize;
        let world = Arc::clone(&pair.world);
        pair.pools.close();
        drop(pair);
        prop_assert_eq!(world.closed().len(), opened, "every connection is closed, once");
    }
}
