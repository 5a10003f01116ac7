//! `resolv.conf` and the hosts file, read when they are first needed and again when they have
//! changed.
//!
//! The system calls go to the pool of blocking threads. While one look-up finds out whether the
//! files have changed, others go on with what was read before.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::config::Config;
use super::hosts::Hosts;
use crate::blocking;
use crate::clock::{self, Nanos};
use crate::wait::Reason;

/// Where the settings come from.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// `None` where the settings were given.
    pub(crate) resolv_conf: Option<PathBuf>,
    pub(crate) hosts: Option<PathBuf>,
}

#[derive(Debug)]
pub(crate) struct Files {
    places: Places,
    given: Config,
    check_every: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    read: Option<Arc<Read>>,
    next_check: Nanos,
}

/// What the files say.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) config: Config,
    pub(crate) hosts: Hosts,
    stamps: [Stamp; 2],
}

/// By what a change is seen: none for a file that is not there.
type Stamp = Option<(i64, i64, u64, u64)>;

impl Files {
    pub(crate) fn new(places: Places, given: Config, check_every: Duration) -> Files {
        let state = Mutex::new(State { read: None, next_check: 0 });
        Files { places, given, check_every, state }
    }

    /// What the files say now, or said a moment ago; and whether that is news.
    ///
    /// # Errors
    ///
    /// That the wait was cut, or that no thread could be started. A file that cannot be read is
    /// one that says nothing.
    pub(crate) fn read(&self) -> io::Result<(Arc<Read>, bool)> {
        let now = clock::now();
        let known = {
            let mut state = self.lock();
            if let Some(read) = &state.read
                && now < state.next_check
            {
                return Ok((Arc::clone(read), false));
            }
            // Others need not look meanwhile.
            state.next_check = clock::later(now, self.check_every);
            state.read.clone()
        };
        let (places, given) = (self.places.clone(), self.given.clone());
        let stamps = known.as_ref().map(|read| read.stamps);
        let job = move || places.read_if_changed(given, stamps);
        let fresh = match (&known, blocking::try_unblock(Reason::LOOK_UP, job)?) {
            (Some(known), None) => return Ok((Arc::clone(known), false)),
            (_, Some(fresh)) => Arc::new(fresh),
            (None, None) => unreachable!("without stamps there is always something new"),
        };
        self.lock().read = Some(Arc::clone(&fresh));
        // Several may have been the first.
        Ok((fresh, known.is_some()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    /// On a thread that may block.
    fn read_if_changed(&self, given: Config, known: Option<[Stamp; 2]>) -> Option<Read> {
        let stamp = |path: &Option<PathBuf>| Some(stamp(&fs::metadata(path.as_ref()?).ok()?));
        // Before the files are read: what changes after this is read again.
        let stamps = [stamp(&self.resolv_conf), stamp(&self.hosts)];
        if known == Some(stamps) {
            return None;
        }
        let text = |path: &PathBuf| {
            fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let config = match &self.resolv_conf {
            Some(path) => {
                text(path).map_or_else(|_| Config::default(), |text| Config::parse(&text))
            }
            None => given,
        };
        let hosts = self.hosts.as_ref().and_then(|path| text(path).ok());
        let hosts = hosts.map(|text| Hosts::parse(&text)).unwrap_or_default();
        Some(Read { config, hosts, stamps })
    }
}

fn stamp(file: &Metadata) -> (i64, i64, u64, u64) {
    (file.mtime(), file.mtime_nsec(), file.size(), file.ino())
}
