// A program over the names `io` and `process` of the module that includes it: std's or ours.

use io::{BufRead, IoSlice, IoSliceMut, PipeReader, PipeWriter, Read, Write};
use process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::fmt::Debug;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};

use crate::util::first_error;

fn owns_a_descriptor<T>()
where
    T: Debug + Send + Sync + 'static,
    T: AsFd + AsRawFd + IntoRawFd + From<OwnedFd> + Into<OwnedFd> + Into<Stdio>,
{
}

fn standard<T: Debug + Send + Sync + AsFd + AsRawFd + 'static>() {}

/// What must hold for the types; that this compiles is the check.
pub fn traits() {
    owns_a_descriptor::<PipeReader>();
    owns_a_descriptor::<PipeWriter>();
    owns_a_descriptor::<ChildStdin>();
    owns_a_descriptor::<ChildStdout>();
    owns_a_descriptor::<ChildStderr>();
    fn reads<T: Read>() {}
    reads::<PipeReader>();
    reads::<&PipeReader>();
    reads::<ChildStdout>();
    reads::<ChildStderr>();
    reads::<io::Stdin>();
    reads::<&io::Stdin>();
    reads::<io::StdinLock<'static>>();
    fn writes<T: Write>() {}
    writes::<PipeWriter>();
    writes::<&PipeWriter>();
    writes::<ChildStdin>();
    writes::<&ChildStdin>();
    writes::<io::Stdout>();
    writes::<&io::Stdout>();
    writes::<io::StdoutLock<'static>>();
    writes::<io::Stderr>();
    writes::<&io::Stderr>();
    writes::<io::StderrLock<'static>>();
    standard::<io::Stdin>();
    standard::<io::Stdout>();
    standard::<io::Stderr>();
    fn buffered<T: BufRead + Debug + AsFd>() {}
    buffered::<io::StdinLock<'static>>();
    fn child<T: Debug + Send + Sync + 'static>() {}
    child::<Child>();
    child::<Command>();
    let _: fn(&io::Stdin, &mut String) -> io::Result<usize> = io::Stdin::read_line;
    let _: fn(io::Stdin) -> io::Lines<io::StdinLock<'static>> = io::Stdin::lines;
    let _: fn(&io::Stdin) -> io::StdinLock<'static> = io::Stdin::lock;
    let _: fn(&io::Stdout) -> io::StdoutLock<'static> = io::Stdout::lock;
    let _: fn(&io::Stderr) -> io::StderrLock<'static> = io::Stderr::lock;
}

/// Every way to move bytes through a pipe.
pub fn pipes() -> io::Result<()> {
    let (mut reader, mut writer) = io::pipe()?;
    assert_eq!(writer.write(b"ab")?, 2);
    assert_eq!((&writer).write_vectored(&[IoSlice::new(b"cd"), IoSlice::new(b"e")])?, 3);
    writer.flush()?;
    let mut clone = writer.try_clone()?;
    writeln!(clone, "{}", 5)?;
    let mut head = [0; 2];
    reader.read_exact(&mut head)?;
    assert_eq!(&head, b"ab");
    let (mut one, mut two) = ([0; 1], [0; 2]);
    let mut buffers = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
    assert_eq!((&reader).read_vectored(&mut buffers)?, 3);
    assert_eq!((&one, &two), (b"c", b"de"));
    drop((writer, clone));
    let mut rest = String::new();
    reader.try_clone()?.read_to_string(&mut rest)?;
    assert_eq!(rest, "5\n");
    assert_eq!(reader.read(&mut head)?, 0);
    let (reader, mut writer) = io::pipe()?;
    drop(reader);
    assert_eq!(first_error(|| writer.write(b"x")).kind(), io::ErrorKind::BrokenPipe);
    let (mut reader, writer) = io::pipe()?;
    let mut child = Command::new("echo").arg("from a child").stdout(writer).spawn()?;
    let mut text = String::new();
    reader.read_to_string(&mut text)?;
    assert_eq!(text, "from a child\n");
    assert!(child.wait()?.success());
    Ok(())
}

/// Starting, talking to, waiting for and killing children.
pub fn processes() -> io::Result<()> {
    let output = Command::new("sh").args(["-c", "cat; echo out; echo err >&2; exit 4"]).output()?;
    assert_eq!(output.status.code(), Some(4));
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    let mut cat = Command::new("cat");
    let mut child = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    assert!(child.id() > 0 && child.try_wait()?.is_none());
    assert!(child.stderr.is_none());
    child.stdin.as_ref().unwrap().write_all(b"through a child")?;
    let output = child.wait_with_output()?;
    assert!(output.status.success() && output.stdout == b"through a child");
    let mut child = cat.spawn()?;
    let mut input = child.stdin.take().unwrap();
    child.kill()?;
    let status = child.wait()?;
    assert!(!status.success() && child.wait()? == status && child.try_wait()? == Some(status));
    child.kill()?;
    assert_eq!(first_error(|| input.write(b"x")).kind(), io::ErrorKind::BrokenPipe);
    let mut exact = Command::new("sh");
    exact.arg("-c").arg("test \"$A$B\" = 1 && test $(pwd) = /").env("A", "1").env("B", "2");
    exact.env_remove("B").current_dir("/");
    assert!(exact.status()?.success());
    assert_eq!(exact.get_program(), "sh");
    assert_eq!(exact.get_args().len(), 2);
    let text = format!("{:?}", Command::new("a").arg("b c"));
    assert_eq!(text, "\"a\" \"b c\"");
    let missing = Command::new("/no/such/program").spawn().unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    Ok(())
}
