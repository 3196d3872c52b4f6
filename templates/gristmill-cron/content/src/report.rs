//! What there is to say at a given time. Pure: `cargo test` runs it without a
//! host.

/// The time of day, from seconds since 1970.
pub(crate) fn report(timestamp: u64) -> String {
    let (minutes, seconds) = (timestamp / 60, timestamp % 60);
    let (hours, minutes) = (minutes / 60 % 24, minutes % 60);
    format!("It is {hours:02}:{minutes:02}:{seconds:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_the_time_of_day() {
        assert_eq!(report(0), "It is 00:00:00 UTC");
        assert_eq!(report(1_767_225_599), "It is 23:59:59 UTC");
    }
}
