//! DNS-8: the files that say whom to ask, and what is known without asking.

use std::fs;
use std::path::PathBuf;

use super::server::*;
use super::socket_util::everywhere;
use super::*;

/// A directory of this test's own, gone when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let thread = format!("{:?}", std::thread::current().id());
        let name = format!("cosocket-dns-{}-{name}-{thread}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        // Renamed into place, as editors do: another inode, however coarse the clock.
        let fresh = self.0.join("fresh");
        fs::write(&fresh, text).unwrap();
        fs::rename(fresh, &path).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_hosts_file_is_asked_first_and_read_again() {
    everywhere(|| {
        let server = Server::start(|ask, link| link.send(ask.point_to("192.0.2.1")));
        let directory = Directory::new("hosts");
        let hosts =
            directory.write("hosts", "192.0.2.9 one.test one\n2001:db8::9 one.test six.test\n");
        let resolver =
            builder(&[&server], LONG).hosts(hosts).check_files_every(Duration::ZERO).build();
        assert_eq!(resolver.look_up("ONE.test").unwrap(), ips(&["192.0.2.9"]));
        assert_eq!(resolver.look_up("one").unwrap(), ips(&["192.0.2.9"]));
        assert_eq!(resolver.look_up("localhost").unwrap(), ips(&["127.0.0.1"]));
        assert!(resolver.look_up("six.test").unwrap_err().is_not_found(), "IPv4 is asked for");
        assert_eq!(server.counts().0, 0);
        assert_eq!(resolver.reverse(ips(&["192.0.2.9"])[0]).unwrap(), ["one.test"]);
        directory.write("hosts", "192.0.2.10 one.test\n");
        assert_eq!(resolver.look_up("one.test").unwrap(), ips(&["192.0.2.10"]));
        fs::remove_file(directory.0.join("hosts")).unwrap();
        assert_eq!(resolver.look_up("one.test").unwrap(), ips(&["192.0.2.1"]));
    });
}

/// With other servers come other answers.
#[test]
fn the_servers_are_those_that_the_file_names_now() {
    everywhere(|| {
        let one = Server::start(|ask, link| link.send(ask.point_to("192.0.2.1")));
        let other = Server::start(|ask, link| link.send(ask.point_to("192.0.2.2")));
        let directory = Directory::new("resolv");
        let text = |server: &Server| format!("nameserver {}\noptions timeout:30\n", server.address);
        let file = directory.write("resolv.conf", &text(&one));
        let resolver = Resolver::builder()
            .resolv_conf(&file)
            .no_hosts()
            .ipv6(false)
            .check_files_every(Duration::ZERO)
            .build();
        for _ in 0..2 {
            assert_eq!(resolver.look_up("www.test").unwrap(), ips(&["192.0.2.1"]));
        }
        assert_eq!(one.counts().0, 1);
        directory.write("resolv.conf", &text(&other));
        assert_eq!(resolver.look_up("www.test").unwrap(), ips(&["192.0.2.2"]));
        assert_eq!((one.counts().0, other.counts().0), (1, 1));
    });
}

#[test]
fn between_checks_the_files_are_left_alone() {
    let server = Server::start(|ask, link| link.send(ask.point_to("192.0.2.1")));
    let directory = Directory::new("checks");
    let hosts = directory.write("hosts", "192.0.2.9 one.test\n");
    let resolver = builder(&[&server], LONG).hosts(hosts).check_files_every(LONG).build();
    assert_eq!(resolver.look_up("one.test").unwrap(), ips(&["192.0.2.9"]));
    directory.write("hosts", "192.0.2.10 one.test\n");
    assert_eq!(resolver.look_up("one.test").unwrap(), ips(&["192.0.2.9"]));
}
