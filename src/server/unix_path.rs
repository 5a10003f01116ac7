//! The path of a Unix socket: made, taken over from a server that has died, removed.
//!
//! ```text
//!   bind --> there is something --> a socket, and nobody listens --> remove it, bind again
//!      |                      `---> anything else ----------------> error: AddrInUse
//!      `--> set the mode --> listen ...... dropped --> remove it, if it is still ours
//! ```
//!
//! Two servers that take over one path at the same moment may both think that it is stale. The
//! second to bind then has it, and the first one's clients never reach it: a lock of its own is
//! what a program needs that may be started twice at once.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::os::unix::net::{UnixListener, of_path};

/// A path with a socket of ours; dropping it removes the file, if that is still ours.
#[derive(Debug)]
pub(super) struct BoundPath {
    path: PathBuf,
    /// Device and number of the file.
    file: (u64, u64),
}

impl BoundPath {
    /// Listens at `path`. The file gets `mode`, if there is one, before anybody can connect.
    pub(super) fn bind(
        path: PathBuf,
        backlog: u32,
        mode: Option<u32>,
        replaces_stale: bool,
    ) -> io::Result<(UnixListener, BoundPath)> {
        let named = |error: io::Error| {
            let message = format!("cannot listen on unix:{}: {error}", path.display());
            io::Error::new(error.kind(), message)
        };
        let socket = Socket::new_raw(Domain::UNIX, Type::STREAM.cloexec(), None)?;
        let address = of_path(&path).map_err(named)?;
        match socket.bind(&address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && replaces_stale => {
                if !is_stale(&path, &address) {
                    return Err(named(error));
                }
                fs::remove_file(&path).map_err(named)?;
                socket.bind(&address).map_err(named)?;
            }
            bound => bound.map_err(named)?,
        }
        let metadata = fs::symlink_metadata(&path).map_err(named)?;
        // From here on what we have made is removed, should the rest fail.
        let bound = BoundPath { path: path.clone(), file: identity(&metadata) };
        if let Some(mode) = mode {
            fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(named)?;
        }
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX)).map_err(named)?;
        Ok((UnixListener::from(OwnedFd::from(socket)), bound))
    }
}

impl Drop for BoundPath {
    fn drop(&mut self) {
        let is_ours = |metadata: Metadata| identity(&metadata) == self.file;
        if fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// It is a socket, and nobody listens. One whose queue is full has somebody.
fn is_stale(path: &Path, address: &SockAddr) -> bool {
    let is_socket = |metadata: Metadata| metadata.file_type().is_socket();
    if !fs::symlink_metadata(path).is_ok_and(is_socket) {
        return false;
    }
    let kind = Type::STREAM.cloexec().nonblocking();
    let tried = Socket::new_raw(Domain::UNIX, kind, None).and_then(|probe| probe.connect(address));
    tried.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}
