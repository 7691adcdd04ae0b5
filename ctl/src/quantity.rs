//! Rates and durations as people write them: `200/hour`, `30d`. Refuses zero and units that are none. Used by `args`.

use std::time::Duration;

use strongroom_protocol::admin::Rate;

/// Parses `N/UNIT`, with second, minute, hour and day or their first letters as units. The burst is N.
///
/// # Errors
/// In words, for clap to print.
pub fn rate(text: &str) -> Result<Rate, String> {
    let wrong = || "write a rate like '200/hour', with second, minute, hour or day".to_owned();
    let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
    let count: u32 = count.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "s" | "sec" | "second" => 1,
        "m" | "min" | "minute" => 60,
        "h" | "hour" => 3600,
        "d" | "day" => 86_400,
        _ => return Err(wrong()),
    };
    if count == 0 {
        return Err("a rate of 0 would refuse everything; revoke the grant instead".to_owned());
    }
    Ok(Rate { count, seconds, burst: count })
}

/// As it is written, without its burst: `200/hour`.
#[must_use]
pub fn per(rate: Rate) -> String {
    match rate.seconds {
        1 => format!("{}/second", rate.count),
        60 => format!("{}/minute", rate.count),
        3600 => format!("{}/hour", rate.count),
        86_400 => format!("{}/day", rate.count),
        other => format!("{}/{other}s", rate.count),
    }
}

/// Parses a duration such as `30d`, `8h` or `90min`, of at least a second.
///
/// # Errors
/// In words, for clap to print.
pub fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration.as_secs() > 0 => Ok(duration),
        _ => Err("write a duration like '30d', '8h' or '90min'".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_they_are_written() {
        assert_eq!(rate("200/hour"), Ok(Rate { count: 200, seconds: 3600, burst: 200 }));
        assert_eq!(rate("1/s"), Ok(Rate { count: 1, seconds: 1, burst: 1 }));
        for text in ["200/hour", "1/second", "7/minute", "3/day"] {
            assert_eq!(rate(text).map(per), Ok(text.to_owned()));
        }
        assert_eq!(per(Rate { count: 5, seconds: 30, burst: 1 }), "5/30s");
        for text in
            ["", "200", "200/", "/hour", "0/hour", "-1/hour", "5/fortnight", "many", "1/hour/day", "99999999999/day"]
        {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_read_as_they_are_written() {
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for text in ["", "soon", "-3d", "0s", "10ms", "5"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
