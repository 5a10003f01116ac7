//! The dictionary of the example, which is all that OpenResty's shared dictionary and LRU cache
//! take here: rows SHD-1 to SHD-3, SHD-5, LRU-1 and LRU-2 of the behaviour table; and the example
//! at work. Lists (SHD-4; section 2, item 176) are shown in the guide, "Coming from OpenResty".

mod socket_util;

#[allow(dead_code)]
#[path = "../examples/shared_state.rs"]
mod example;

use std::io::{BufRead, BufReader, Write};
use std::sync::Arc;
use std::time::Duration;

use cosocket::net::TcpStream;
use cosocket::server::Server;
use cosocket::sync::broadcast;
use cosocket::thread;
use example::Dictionary;
use socket_util::until;

fn of(capacity: usize) -> Dictionary {
    Dictionary::new(capacity)
}

/// SHD-1, LRU-2; section 2, item 175 (043:9,10): reading an entry protects it.
#[test]
fn the_least_recently_used_entry_goes_first() {
    let dictionary = of(2);
    assert!(!dictionary.set("a", "1", None));
    assert!(!dictionary.set("b", "2", None));
    assert!(!dictionary.set("b", "3", None), "nobody had to go");
    assert_eq!(dictionary.get("a").as_deref(), Some("1"));
    assert!(dictionary.set("c", "4", None));
    assert_eq!(dictionary.get("b"), None);
    assert_eq!(dictionary.get("a").as_deref(), Some("1"));
    assert_eq!(dictionary.get("c").as_deref(), Some("4"));
}

/// SHD-1, SHD-2, SHD-5
#[test]
fn an_entry_is_there_until_its_time() {
    let dictionary = of(2);
    dictionary.set("a", "1", Some(Duration::from_millis(2)));
    until(|| dictionary.get("a").is_none());
    dictionary.set("a", "2", Some(Duration::from_secs(3600)));
    assert_eq!(dictionary.get("a").as_deref(), Some("2"));
}

/// SHD-3
#[test]
fn a_number_is_counted_by_all_and_missed_by_none() {
    let dictionary = Arc::new(of(10));
    let counters: Vec<_> = (0..4)
        .map(|_| {
            let dictionary = Arc::clone(&dictionary);
            thread::spawn(move || {
                for _ in 0..10_000 {
                    dictionary.increment("visits", 1).unwrap();
                }
            })
        })
        .collect();
    counters.into_iter().for_each(|counter| counter.join().unwrap());
    assert_eq!(dictionary.get("visits").as_deref(), Some("40000"));
    dictionary.set("text", "hello", None);
    assert_eq!(dictionary.increment("text", 1), None, "not a number");
}

/// What one request says another hears.
#[test]
fn requests_share_a_dictionary_and_talk_to_each_other() {
    cosocket::run(|| {
        let shared = Arc::new((of(10), broadcast::Sender::new(10)));
        let serving = Arc::clone(&shared);
        let server = Server::new().listen("127.0.0.1:0");
        let server = server.start(move |client| example::serve(&client, &serving)).unwrap();
        let client = || TcpStream::connect(server.tcp_addr().unwrap()).unwrap();
        let (one, other) = (client(), client());
        let ask = |stream: &TcpStream, line: &str| {
            writeln!(&mut &*stream, "{line}").unwrap();
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer).unwrap();
            answer
        };
        assert_eq!(ask(&one, "set greeting hello"), "forcible: false\n");
        assert_eq!(ask(&other, "get greeting"), "Some(\"hello\")\n");
        assert_eq!(ask(&one, "incr visits"), "Some(1)\n");
        assert_eq!(ask(&other, "incr visits"), "Some(2)\n");
        assert_eq!(ask(&one, "tell nobody"), "told 0\n");
        let listener = thread::spawn(move || ask(&other, "listen"));
        until(|| shared.1.receiver_count() == 1);
        assert_eq!(ask(&one, "tell you"), "told 1\n");
        assert_eq!(listener.join().unwrap(), "Ok(\"you\")\n");
    });
}
