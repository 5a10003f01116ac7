//! The secrets of connections, in a file, for who has to look into them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// An open key log. Clones write to the same file.
#[derive(Clone, Debug)]
pub(super) struct KeyLog(Arc<File>);

impl KeyLog {
    pub(super) fn append_to(path: &Path) -> io::Result<KeyLog> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        Ok(KeyLog(Arc::new(file)))
    }

    /// One line of the format that NSS has made the common one: label, random, secret.
    pub(super) fn write(&self, label: &str, random: &[u8], secret: &[u8]) {
        let line = format!("{label} {} {}\n", hex(random), hex(secret));
        // In one call: lines of several connections, and processes, stay whole.
        let _ = (&*self.0).write_all(line.as_bytes());
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
