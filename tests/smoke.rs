use std::io::{Read, Write};
use std::time::Duration;
use cosocket::net::{TcpListener, TcpStream};
use cosocket::thread;

#[test]
fn spawn_join() {
    let n = cosocket::run(|| {
        let hs: Vec<_> = (0..1000).map(|i| thread::spawn(move || { thread::yield_now(); i })).collect();
        hs.into_iter().map(|h| h.join().unwrap()).sum::<i32>()
    });
    assert_eq!(n, 499500);
}
#[test]
fn echo() {
    cosocket::run(|| {
        let l = TcpListener::bind("127.0.0.1:0").unwrap();
        let a = l.local_addr().unwrap();
        thread::spawn(move || for s in l.incoming() {
            let mut s = s.unwrap();
            thread::spawn(move || { let mut b=[0u8;100]; loop { let n = s.read(&mut b).unwrap(); if n==0 {break} s.write_all(&b[..n]).unwrap(); } });
        });
        let hs: Vec<_> = (0..200).map(|i| thread::spawn(move || {
            let mut s = TcpStream::connect(a).unwrap();
            for k in 0..100u32 { let m=(i*1000+k).to_le_bytes(); s.write_all(&m).unwrap(); let mut r=[0u8;4]; s.read_exact(&mut r).unwrap(); assert_eq!(m,r); }
        })).collect();
        for h in hs { h.join().unwrap(); }
        let mut s = TcpStream::connect(a).unwrap();
        s.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
        assert_eq!(s.read(&mut [0;1]).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        s.write_all(b"x").unwrap();
        assert_eq!(s.read(&mut [0;1]).unwrap(), 1);
    });
}
#[test]
fn cancel_and_sleep() {
    cosocket::run(|| {
        let h = thread::spawn(|| thread::sleep(Duration::from_secs(1000)));
        thread::sleep(Duration::from_millis(5));
        h.cancel();
        assert!(h.join().unwrap_err().is::<cosocket::Cancelled>());
        let x = cosocket::unblock(|| 5);
        assert_eq!(x, 5);
        let mut v = vec![1];
        thread::scope(|s| { s.spawn(|| v.push(2)); });
        assert_eq!(v.len(), 2);
    });
}
#[test]
fn drop_cancels() {
    cosocket::run(|| {
        let l = TcpListener::bind("127.0.0.1:0").unwrap();
        for _ in 0..10 { thread::spawn(|| thread::park()); thread::spawn(|| thread::sleep(Duration::from_secs(100))); }
        thread::spawn(move || l.accept().map(|_|()));
        thread::yield_now();
    });
}
