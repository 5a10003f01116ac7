//! What was answered before, for as long as it holds.
//!
//! ```text
//!   put --> [ young ] -- full --> becomes --> [ old ] -- young is full again --> forgotten
//!               ^                                |
//!               '------------- found ------------'
//! ```
//!
//! So what is asked for stays and what is not goes, at no cost but a lookup; each half holds half
//! of what fits. An answer that no longer holds is found out when it is asked for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::Record;

use super::question::Question;
use crate::clock::{self, Nanos};

/// What is known of a question.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    Records(Arc<[Record]>),
    /// That there is nothing (RFC 2308).
    Nothing,
}

/// For how long answers may be kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) entries_max: usize,
    pub(crate) ttl_min: Duration,
    pub(crate) ttl_max: Duration,
    pub(crate) negative_ttl_max: Duration,
}

#[derive(Debug)]
pub(crate) struct Cache {
    bounds: Bounds,
    young: HashMap<Question, Entry>,
    old: HashMap<Question, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    known: Known,
    until: Nanos,
}

impl Cache {
    pub(crate) fn new(bounds: Bounds) -> Cache {
        Cache { bounds, young: HashMap::new(), old: HashMap::new() }
    }

    /// What holds at `now`.
    pub(crate) fn find(&mut self, question: &Question, now: Nanos) -> Option<Known> {
        if let Some(entry) = self.young.get(question) {
            if entry.until > now {
                return Some(entry.known.clone());
            }
            self.young.remove(question);
            return None;
        }
        let entry = self.old.remove(question)?;
        if entry.until <= now {
            return None;
        }
        let known = entry.known.clone();
        self.insert(question.clone(), entry);
        Some(known)
    }

    /// Keeps an answer that has come at `now` and holds for `ttl`.
    pub(crate) fn put(&mut self, question: &Question, known: Known, ttl: Duration, now: Nanos) {
        let bounds = self.bounds;
        let ttl = match known {
            Known::Records(_) => ttl.clamp(bounds.ttl_min.min(bounds.ttl_max), bounds.ttl_max),
            Known::Nothing => ttl.min(bounds.negative_ttl_max),
        };
        self.forget(question);
        if ttl > Duration::ZERO && bounds.entries_max > 0 {
            let until = clock::later(now, ttl);
            self.insert(question.clone(), Entry { known, until });
        }
    }

    fn insert(&mut self, question: Question, entry: Entry) {
        if self.young.len() >= self.bounds.entries_max.div_ceil(2) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(question, entry);
    }

    pub(crate) fn forget(&mut self, question: &Question) {
        self.young.remove(question);
        self.old.remove(question);
    }

    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::{Name, RecordType};

    use super::*;

    const BOUNDS: Bounds = Bounds {
        entries_max: 8,
        ttl_min: Duration::ZERO,
        ttl_max: Duration::from_secs(100),
        negative_ttl_max: Duration::from_secs(10),
    };
    const SECOND: Nanos = 1_000_000_000;

    fn question(number: usize) -> Question {
        let name = Name::from_ascii(format!("host-{number}.test.")).unwrap();
        Question { name, kind: RecordType::A }
    }

    fn records() -> Known {
        Known::Records(Arc::new([]))
    }

    #[test]
    fn answers_hold_as_long_as_they_say_and_no_longer_than_allowed() {
        let mut cache = Cache::new(BOUNDS);
        let cases = [
            (records(), 5, 5),
            (records(), 1000, 100),
            (Known::Nothing, 5, 5),
            (Known::Nothing, 1000, 10),
        ];
        for (number, (known, ttl, held)) in cases.into_iter().enumerate() {
            let question = question(number);
            cache.put(&question, known, Duration::from_secs(ttl), 7);
            assert!(cache.find(&question, 7 + held * SECOND - 1).is_some());
            assert!(cache.find(&question, 7 + held * SECOND).is_none());
        }
        assert_eq!(cache.len(), 0, "what no longer holds is dropped when it is found");
        cache.put(&question(1), records(), Duration::ZERO, 0);
        assert!(cache.find(&question(1), 0).is_none());
        let mut cache = Cache::new(Bounds { ttl_min: Duration::from_secs(3), ..BOUNDS });
        cache.put(&question(1), records(), Duration::ZERO, 0);
        assert!(cache.find(&question(1), 3 * SECOND - 1).is_some());
    }

    #[test]
    fn a_later_answer_takes_the_place_of_an_earlier_one() {
        let mut cache = Cache::new(BOUNDS);
        for number in 0..6 {
            cache.put(&question(number), records(), Duration::from_secs(9), 0);
        }
        cache.put(&question(0), Known::Nothing, Duration::from_secs(9), 0);
        assert!(matches!(cache.find(&question(0), 0), Some(Known::Nothing)));
        cache.put(&question(0), records(), Duration::ZERO, 0);
        assert!(cache.find(&question(0), 0).is_none());
        cache.clear();
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_asked_for() {
        let mut cache = Cache::new(BOUNDS);
        for number in 0..1000 {
            cache.put(&question(number), records(), Duration::from_secs(9), 0);
            assert!(cache.len() <= BOUNDS.entries_max);
            assert!(cache.find(&question(0), 0).is_some(), "asked for all the time: {number}");
        }
        assert!(cache.find(&question(1), 0).is_none());
        assert!(cache.find(&question(999), 0).is_some());
        let mut none = Cache::new(Bounds { entries_max: 0, ..BOUNDS });
        none.put(&question(0), records(), Duration::from_secs(9), 0);
        assert_eq!(none.len(), 0);
    }
}
