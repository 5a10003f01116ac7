//! `io::pipe`: reads and writes suspend, nothing is lost, and the descriptor's mode stays as it is.

#[allow(unsafe_code)]
mod socket_util;
#[allow(unsafe_code)]
mod util;

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use cosocket::io::{PipeReader, PipeWriter, pipe};
use cosocket::{Builder, Cancelled, thread};
use socket_util::{Agents, everywhere, is_nonblocking, spawn_waiting, turn};
use util::{Random, child, descriptors, is_quick, readable_bytes, refuse_system_call};

/// What a pipe takes before a write waits.
fn fill(writer: &PipeWriter) -> usize {
    let capacity = 65536;
    { writer }.write_all(&vec![0; capacity]).unwrap();
    capacity
}

#[test]
fn a_read_waits_for_a_write_and_a_write_for_a_read() {
    everywhere(|| {
        let (reader, writer) = pipe().unwrap();
        let speaker = thread::spawn(move || {
            for round in 0..100_u8 {
                (&writer).write_all(&[round; 3000]).unwrap();
            }
        });
        for round in 0..100_u8 {
            let mut bytes = [0; 3000];
            (&reader).read_exact(&mut bytes).unwrap();
            assert_eq!(bytes, [round; 3000]);
        }
        assert_eq!((&reader).read(&mut [0; 10]).unwrap(), 0);
        speaker.join().unwrap();
    });
}

#[test]
fn several_buffers_move_in_one_call() {
    everywhere(|| {
        let (mut reader, mut writer) = pipe().unwrap();
        let parts = [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")];
        assert_eq!(writer.write_vectored(&parts).unwrap(), 5);
        let (mut one, mut two) = ([0; 1], [0; 8]);
        let mut parts = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
        assert_eq!(reader.read_vectored(&mut parts).unwrap(), 5);
        assert_eq!((&one, &two[..4]), (b"a", &b"bcde"[..]));
        assert_eq!(writer.write(&[]).unwrap(), 0);
        assert_eq!(reader.read(&mut []).unwrap(), 0);
        // More than the kernel takes at once is a shorter transfer.
        let many = [IoSlice::new(b"x"); 2000];
        assert_eq!(writer.write_vectored(&many).unwrap(), 1024);
    });
}

#[test]
fn the_end_comes_when_the_last_clone_is_gone() {
    everywhere(|| {
        let (mut reader, writer) = pipe().unwrap();
        let clone = writer.try_clone().unwrap();
        drop(writer);
        let waiting = thread::spawn(move || (reader.read(&mut [0; 4]).unwrap(), reader));
        drop(clone);
        let (count, reader) = waiting.join().unwrap();
        assert_eq!(count, 0);
        drop(reader);
    });
}

#[test]
fn a_write_without_a_reader_is_an_error_here_and_while_it_waits() {
    everywhere(|| {
        let (reader, mut writer) = pipe().unwrap();
        drop(reader);
        assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
    cosocket::run(|| {
        let (reader, writer) = pipe().unwrap();
        fill(&writer);
        let writer = spawn_waiting(move || (&writer).write(b"more"));
        assert!(!writer.is_finished());
        drop(reader);
        assert_eq!(writer.join().unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_cancelled_read_leaves_the_bytes_and_a_cancelled_write_writes_none() {
    cosocket::run(|| {
        let (reader, writer) = pipe().unwrap();
        let (reader, writer) = (Arc::new(reader), Arc::new(writer));
        let reading = Arc::clone(&reader);
        let waiter = spawn_waiting(move || (&*reading).read(&mut [0; 10]));
        waiter.cancel();
        assert!(waiter.join().unwrap_err().is::<Cancelled>());
        (&*writer).write_all(b"kept").unwrap();
        let mut bytes = [0; 10];
        assert_eq!((&*reader).read(&mut bytes).unwrap(), 4);

        let capacity = fill(&writer);
        let writing = Arc::clone(&writer);
        let waiter = spawn_waiting(move || (&*writing).write(b"lost"));
        waiter.cancel();
        assert!(waiter.join().unwrap_err().is::<Cancelled>());
        turn();
        assert_eq!(readable_bytes(&*reader), capacity);
    });
}

/// Writers and readers are cancelled at random: what those report who were not is what went
/// through.
#[test]
fn no_byte_is_lost_or_made_up_when_cancels_race_with_transfers() {
    let rounds = if is_quick() { 50 } else { 600 };
    let mut random = Random::new();
    cosocket::run(move || {
        let (reader, writer) = pipe().unwrap();
        let (reader, writer) = (Arc::new(reader), Arc::new(writer));
        let (mut written, mut read) = (0, 0);
        for _ in 0..rounds {
            let (size, room) = (1 + random.below(9000), 1 + random.below(9000));
            let (source, target) = (Arc::clone(&writer), Arc::clone(&reader));
            let writing = thread::spawn(move || (&*source).write(&vec![1; size as usize]).unwrap());
            let reading = thread::spawn(move || {
                let mut bytes = vec![0; room as usize];
                let count = (&*target).read(&mut bytes).unwrap();
                assert!(bytes[..count].iter().all(|&byte| byte == 1));
                count
            });
            (0..random.below(4)).for_each(|_| thread::yield_now());
            if random.one_in(2) {
                reading.cancel();
            }
            if random.one_in(4) {
                writing.cancel();
            }
            written += writing.join().unwrap_or(0);
            if written == read {
                reading.cancel();
            }
            read += reading.join().unwrap_or(0);
            // So that no write has to wait for room.
            while written - read > 40_000 {
                read += (&*reader).read(&mut [0; 20_000]).unwrap();
            }
        }
        assert_eq!(readable_bytes(&*reader), written - read);
    });
}

#[test]
fn ends_are_used_on_any_worker() {
    let runtime = Builder::new().build().unwrap();
    let agents = Agents::of(&runtime);
    let (reader, writer) = pipe().unwrap();
    let (reader, writer) = (Arc::new(reader), Arc::new(writer));
    for round in 0..40_u8 {
        let (source, target) = (Arc::clone(&writer), Arc::clone(&reader));
        let reading = agents.at(usize::from(round)).start(move || {
            let mut byte = [0];
            (&*target).read_exact(&mut byte).unwrap();
            byte[0]
        });
        agents.at(usize::from(round)).settle();
        let writing = agents.at(usize::from(round / 2)).start(move || {
            (&*source).write_all(&[round]).unwrap();
        });
        writing.recv().unwrap();
        assert_eq!(reading.recv().unwrap(), round);
    }
}

#[test]
fn several_readers_share_what_comes() {
    cosocket::run(|| {
        let (reader, mut writer) = pipe().unwrap();
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let mut reader = reader.try_clone().unwrap();
                thread::spawn(move || {
                    let mut count = 0;
                    while reader.read(&mut [0; 1]).unwrap() == 1 {
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        for _ in 0..500 {
            writer.write_all(b"x").unwrap();
        }
        drop(writer);
        let total: i32 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        assert_eq!(total, 500);
    });
}

/// Waits at both ends, which leaves behind whatever waiting leaves behind.
fn wait_at_both_ends(reader: &Arc<PipeReader>, writer: &Arc<PipeWriter>) {
    let reading = Arc::clone(reader);
    let waiter = spawn_waiting(move || (&*reading).read(&mut [0; 1]).unwrap());
    (&**writer).write_all(b"x").unwrap();
    assert_eq!(waiter.join().unwrap(), 1);
    fill(writer);
    let writing = Arc::clone(writer);
    let waiter = spawn_waiting(move || (&*writing).write(b"y").unwrap());
    (&**reader).read_exact(&mut [0; 65536]).unwrap();
    assert_eq!(waiter.join().unwrap(), 1);
    (&**reader).read_exact(&mut [0; 1]).unwrap();
}

/// Hands both ends out, to std and to a child, and looks at their mode.
fn conversions_give_blocking_descriptors() {
    cosocket::run(|| {
        let (reader, writer) = pipe().unwrap();
        let (reader, writer) = (Arc::new(reader), Arc::new(writer));
        wait_at_both_ends(&reader, &writer);
        let reader = std::io::PipeReader::from(Arc::into_inner(reader).unwrap());
        let writer = OwnedFd::from(Arc::into_inner(writer).unwrap());
        assert!(!is_nonblocking(&reader) && !is_nonblocking(&writer));
        let writer = PipeWriter::from(writer);
        let mut echo = std::process::Command::new("echo");
        assert!(echo.arg("from a child").stdout(writer).status().unwrap().success());
        drop(echo);
        let mut text = String::new();
        PipeReader::from(reader).read_to_string(&mut text).unwrap();
        assert_eq!(text, "from a child\n");
    });
}

#[test]
fn conversions_give_blocking_descriptors_to_std_and_to_children() {
    conversions_give_blocking_descriptors();
}

#[test]
fn waiting_does_not_touch_the_mode_of_a_pipe() {
    cosocket::run(|| {
        let (reader, writer) = pipe().unwrap();
        let (reader, writer) = (Arc::new(reader), Arc::new(writer));
        wait_at_both_ends(&reader, &writer);
        assert!(!is_nonblocking(&*reader) && !is_nonblocking(&*writer));
    });
}

/// As before Linux 6.5, where pipes have no RWF_NOWAIT; and as in a sandbox that knows no preadv2.
#[test]
fn without_rwf_nowait_pipes_work_and_their_mode_is_given_back() {
    for errno in [libc::EOPNOTSUPP, libc::ENOSYS] {
        let test = "without_rwf_nowait_pipes_work_and_their_mode_is_given_back";
        child::passes(test, || {
            refuse_system_call(libc::SYS_preadv2, errno);
            refuse_system_call(libc::SYS_pwritev2, errno);
            conversions_give_blocking_descriptors();
            cosocket::run(|| {
                let (reader, writer) = pipe().unwrap();
                let inherited = reader.try_clone().unwrap();
                let inherited = OwnedFd::from(inherited);
                let (reader, writer) = (Arc::new(reader), Arc::new(writer));
                wait_at_both_ends(&reader, &writer);
                drop(reader);
                assert!(!is_nonblocking(&inherited), "left behind by the drop");
            });
        });
    }
}

#[test]
fn what_is_no_pipe_works_too() {
    everywhere(|| {
        let path = std::env::temp_dir().join(format!("cosocket-pipes-{}", std::process::id()));
        let file = std::fs::File::options().create(true).truncate(true).write(true).open(&path);
        let mut writer = PipeWriter::from(OwnedFd::from(file.unwrap()));
        writer.write_all(b"into ").unwrap();
        writer.write_all(b"a file").unwrap();
        drop(writer);
        let file = std::fs::File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let mut text = String::new();
        PipeReader::from(OwnedFd::from(file)).read_to_string(&mut text).unwrap();
        assert_eq!(text, "into a file");
        let zero = std::fs::File::open("/dev/zero").unwrap();
        let mut bytes = [1; 100];
        PipeReader::from(OwnedFd::from(zero)).read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, [0; 100]);
    });
}

#[test]
fn a_descriptor_that_came_non_blocking_stays_so() {
    everywhere(|| {
        let (reader, _writer) = std::io::pipe().unwrap();
        let reader = OwnedFd::from(reader);
        socket2::SockRef::from(&reader).set_nonblocking(true).unwrap();
        let mut reader = PipeReader::from(reader);
        assert_eq!(reader.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(is_nonblocking(&OwnedFd::from(reader)));
    });
}

#[test]
fn descriptors_are_closed_and_a_full_table_is_an_error() {
    child::passes("descriptors_are_closed_and_a_full_table_is_an_error", || {
        cosocket::run(|| {
            let (reader, writer) = pipe().unwrap();
            wait_at_both_ends(&Arc::new(reader), &Arc::new(writer));
            let before = descriptors();
            for _ in 0..100 {
                let (reader, writer) = pipe().unwrap();
                wait_at_both_ends(&Arc::new(reader), &Arc::new(writer));
            }
            assert_eq!(descriptors(), before);
            let gaps = util::leave_descriptors(1);
            let error = pipe().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
            drop(gaps);
        });
    });
}

/// As with std: pipes have no MSG_NOSIGNAL.
#[test]
fn a_broken_pipe_raises_sigpipe_where_a_program_has_not_ignored_it() {
    use std::os::unix::process::ExitStatusExt;
    let test = "a_broken_pipe_raises_sigpipe_where_a_program_has_not_ignored_it";
    let output = child::run(test, || {
        socket_util::default_action(libc::SIGPIPE);
        cosocket::run(|| {
            let (reader, mut writer) = pipe().unwrap();
            drop(reader);
            let _ = writer.write(b"x");
        });
    });
    assert_eq!(output.status.signal(), Some(libc::SIGPIPE), "{}", child::describe(&output));
}
