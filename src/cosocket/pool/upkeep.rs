//! What is done to idle connections that nobody asks for: they expire, are looked at when they
//! speak, and are closed.

use std::sync::Arc;
use std::time::Duration;

use super::places::Shelving;
use super::shard::{Entry, Idle};
use super::stock::Stock;
use super::ticket::Ticket;
use super::watch::Call;
use super::{Eviction, Pooled};
use crate::clock::{self, Nanos};

impl<C: Pooled> Stock<C> {
    /// The watch comes by, as it was asked to at `asked`: closes what has expired, has the rest
    /// watched, and is told when to come again.
    pub(super) fn visit(self: &Arc<Self>, shard: usize, asked: Nanos, now: Nanos) {
        let watch = self.pools.watch();
        let mut expired = Vec::new();
        let mut idle = self.shards[shard].lock();
        if idle.visit_at != asked {
            return;
        }
        while let Some(id) = idle.expired(now)
            && self.places.take_one_more()
        {
            expired.extend(idle.remove(id));
        }
        let until = now.saturating_sub(watch.patience());
        idle.settle(until, |entry| entry.token = watch.add(self, shard, entry));
        // What has expired, and is another's by right, is gone in a moment.
        idle.visit_at = idle.due(watch.patience()).max(now + watch.patience() / 10);
        // The one who is called is the caller.
        let (Call::Nothing | Call::Ring | Call::Start) =
            watch.expect(self, shard, asked, idle.visit_at);
        drop(idle);
        for entry in expired {
            watch.forget(&entry);
            let reason = self.why_expired(&entry, now);
            self.close(entry, reason, now);
        }
        self.retire_if_empty();
    }

    /// The watch has heard of a connection: closes it, unless that was nothing but noise of its
    /// transport. False if it is to be heard of again.
    pub(super) fn look_at(self: &Arc<Self>, shard: usize, id: u64) -> bool {
        let mut is_there = false;
        let taken = self.take_from(shard, |idle| {
            is_there = idle.has(id);
            (is_there && self.places.check_out()).then(|| idle.remove(id)).flatten()
        });
        // All that are idle may be somebody's by right: then who takes this one looks at it.
        let Some(mut entry) = taken else { return !is_there };
        let mut ticket = Ticket::vacant(self);
        if !entry.connection.is_quiet() {
            self.pools.watch().forget(&entry);
            self.close(entry, Eviction::Stale, clock::now());
            return true;
        }
        ticket.set_in_use();
        self.put_back(shard, entry, ticket);
        false
    }

    /// Puts a connection back that was looked at.
    fn put_back(self: &Arc<Self>, shard: usize, entry: Entry<C>, mut ticket: Ticket<C>) {
        let mut entry = entry;
        let is_evicting = loop {
            let mut idle = self.shards[shard].lock();
            if self.pools.is_closed() {
                drop(idle);
                self.pools.watch().forget(&entry);
                return self.close(entry, Eviction::Shutdown, clock::now());
            }
            match self.places.shelve(self.plan.settings.limits, true) {
                Shelving::MustPass => {
                    idle.counts.taken += 1;
                    drop(idle);
                    self.pools.watch().forget(&entry);
                    entry.token = None;
                    match self.pass(entry.connection, Some(ticket)) {
                        Ok(_) => return,
                        Err((connection, its)) => {
                            entry.connection = connection;
                            ticket = its.expect("it was passed");
                            self.shards[shard].lock().counts.taken -= 1;
                        }
                    }
                }
                shelving => {
                    idle.put_back(entry);
                    let call = self.ask_for_visit(&mut idle, shard);
                    drop(idle);
                    self.pools.watch().make(call, &self.pools);
                    break shelving == Shelving::Evicting;
                }
            }
        };
        drop(ticket.into_stock());
        if is_evicting {
            self.evict_oldest(clock::now());
        }
    }

    /// Closes all that are idle.
    pub(super) fn close_idle(self: &Arc<Self>, reason: Eviction) {
        let now = clock::now();
        for shard in 0..self.shards.len() {
            let take = |idle: &mut Idle<C>| {
                let is_one = idle.oldest().is_some() && self.places.take_one_more();
                is_one.then(|| idle.pop_oldest()).flatten()
            };
            while let Some(entry) = self.take_from(shard, take) {
                self.pools.watch().forget(&entry);
                self.close(entry, reason, now);
            }
        }
        self.retire_if_empty();
    }

    /// Closes an idle connection that is on no shard any more.
    pub(super) fn close(&self, entry: Entry<C>, reason: Eviction, now: Nanos) {
        let counter = match reason {
            Eviction::Full | Eviction::Shutdown => &self.counters.evicted,
            Eviction::Idle => &self.counters.expired,
            Eviction::Age => &self.counters.aged,
            Eviction::Stale => &self.counters.stale,
        };
        counter.one_more();
        let idle_for = Duration::from_nanos(now.saturating_sub(entry.parked_at));
        entry.connection.evict(&self.plan.settings.hooks, reason, idle_for);
    }

    pub(super) fn why_expired(&self, entry: &Entry<C>, now: Nanos) -> Eviction {
        let is_aged = self.plan.settings.too_old_at(entry.connection.opened_at()) <= now;
        if is_aged { Eviction::Age } else { Eviction::Idle }
    }
}
