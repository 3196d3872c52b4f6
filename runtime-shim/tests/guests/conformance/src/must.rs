//! How an expectation is written, and how it reads when it is not met.

/// Why an area does not behave as on Spin.
pub(crate) type Outcome = Result<(), String>;

macro_rules! must {
    ($actual:expr, $expected:pat $(if $guard:expr)?) => {
        match $actual {
            $expected $(if $guard)? => {}
            other => {
                return Err(format!(
                    "{}:{}: `{}` must be `{}`, but is `{other:?}`",
                    file!(),
                    line!(),
                    stringify!($actual),
                    stringify!($expected $(if $guard)?),
                ));
            }
        }
    };
}
pub(crate) use must;

/// The value, or what went wrong while `what` was done.
pub(crate) fn done<T, E: std::fmt::Debug>(what: &str, result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error:?}"))
}
