//! The macro over [`Select`](super::Select).

/// Waits for the first of several [arms](crate::sync::select::Arm) and runs its body.
///
/// ```text
/// select! {
///     pattern = arm => body,
///     pattern = arm => body,
///     else => body,               (optional: when no arm can be done at once; then nothing waits)
/// }
/// ```
///
/// Each arm is an expression, such as [`select::recv(&receiver)`](crate::sync::select::recv) or a
/// `&mut` to an arm made before. All of them are evaluated, then one is done, then they are
/// dropped, and then the body of the one that was done runs, with what it yields bound to its
/// pattern (which must match whatever that is). So bodies may use what the arms borrowed, and
/// `break`, `continue`, `return` and `?` in them mean what they mean outside.
///
/// ```
/// use std::time::Duration;
///
/// use cosocket::sync::{mpsc, select};
///
/// let (sender, receiver) = mpsc::channel();
/// let producer = cosocket::spawn(move || {
///     for number in 0..3 {
///         sender.send(number).unwrap();
///     }
/// });
/// let mut sum = 0;
/// loop {
///     select! {
///         number = select::recv(&receiver) => match number {
///             Ok(number) => sum += number,
///             Err(mpsc::RecvError) => break,
///         },
///         () = select::after(Duration::from_secs(10)) => panic!("the producer is stuck"),
///     }
/// }
/// assert_eq!(sum, 3);
/// producer.join().unwrap();
///
/// let number = select! {
///     number = select::recv(&receiver) => number.ok(),
///     else => unreachable!("a receiver without senders has its answer at once"),
/// };
/// assert_eq!(number, None);
/// ```
#[macro_export]
macro_rules! select {
    // Each step gives one arm names of its own, which no other step and no caller can mean.
    (@named ($($named:tt)+)) => {
        $crate::select!(@run wait ($($named)+) ::std::unreachable!())
    };
    (@named ($($named:tt)+) else => $body:expr $(,)?) => {
        $crate::select!(@run try_wait ($($named)+) $body)
    };
    (@named ($($named:tt)*) $pattern:pat = $arm:expr => $body:block, $($rest:tt)*) => {
        $crate::select!(@named ($($named)* {arm output $pattern = $arm => $body}) $($rest)*)
    };
    (@named ($($named:tt)*) $pattern:pat = $arm:expr => $body:block $($rest:tt)*) => {
        $crate::select!(@named ($($named)* {arm output $pattern = $arm => $body}) $($rest)*)
    };
    (@named ($($named:tt)*) $pattern:pat = $arm:expr => $body:expr, $($rest:tt)*) => {
        $crate::select!(@named ($($named)* {arm output $pattern = $arm => $body}) $($rest)*)
    };
    (@named ($($named:tt)*) $pattern:pat = $arm:expr => $body:expr) => {
        $crate::select!(@named ($($named)* {arm output $pattern = $arm => $body}))
    };
    (@run $wait:ident
        ($({$arm:ident $output:ident $pattern:pat = $value:expr => $body:expr})+) $otherwise:expr
    ) => {{
        $(let $output;)+
        {
            $(let mut $arm = $value;)+
            let mut select = $crate::sync::select::Select::new();
            $(select.add(&mut $arm);)+
            let _ = select.$wait();
            $($output = $crate::sync::select::Arm::take(&mut $arm);)+
        }
        $(if let ::std::option::Option::Some(output) = $output {
            let $pattern = output;
            $body
        } else)+ {
            $otherwise
        }
    }};
    ($($arms:tt)+) => {
        $crate::select!(@named () $($arms)+)
    };
}
