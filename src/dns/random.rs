//! Numbers that nobody else can guess: ids of questions, and the case of letters.

/// Fresh from the kernel.
#[allow(unsafe_code)]
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    const { assert!(N <= 256, "no more is had in one call") };
    let mut bytes = [0; N];
    loop {
        // SAFETY: the array may be written, and is as long as we say.
        let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
        // Up to 256 bytes come at once; before that, only a signal while the machine starts up.
        if count == N as isize {
            return bytes;
        }
    }
}
