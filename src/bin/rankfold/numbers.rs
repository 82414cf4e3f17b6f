//! Numbers as people write and read them: counts, lengths of time, shares.

/// Up to here every whole number is an `f64`.
const MOST: f64 = 9e15;

/// Suffixes of lengths of time, in seconds. Without one, a number is seconds.
const UNITS: [(&str, f64); 10] = [
    ("", 1.0),
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("μs", 1e-6), // the Greek letter, which looks like the sign above
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
    ("d", 86400.0),
];

/// A whole number: `1000000`, `1_000_000`, `1e9`, `2.5e6`, `10k`, `10M`, `10G`, `10T`.
pub fn whole(text: &str) -> Result<u64, String> {
    let mut plain = text.replace('_', "");
    if let Ok(exact) = plain.parse() {
        return Ok(exact);
    }
    for (suffix, power) in [("k", "e3"), ("M", "e6"), ("G", "e9"), ("T", "e12")] {
        plain = plain.replace(suffix, power);
    }
    let value: f64 = plain.parse().unwrap_or(f64::NAN);
    if value > MOST && value.fract() == 0.0 {
        return Err("more than 9e15".to_owned());
    }
    let is_whole = value.fract() == 0.0 && value >= 0.0;
    if is_whole { Ok(value as u64) } else { Err("not a whole number such as 1000000, 1e6 or 1M".to_owned()) }
}

/// A whole number of at least one.
pub fn positive(text: &str) -> Result<u64, String> {
    match whole(text)? {
        0 => Err("at least 1 is needed".to_owned()),
        number => Ok(number),
    }
}

/// Seconds: `420ns`, `1.5us`, `2ms`, `3s`, `90m`, `2h`, `0.003`.
pub fn seconds(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches(char::is_alphabetic);
    let unit = UNITS.iter().find(|(name, _)| *name == &text[number.len()..]);
    let (Some((_, unit)), Ok(value)) = (unit, number.trim_end().parse::<f64>()) else {
        return Err("not a length of time such as 420ns, 1.5us, 2ms, 3s or 90m".to_owned());
    };
    match value * unit {
        seconds if seconds < 0.0 => Err("less than no time at all".to_owned()),
        seconds if seconds.is_finite() => Ok(seconds),
        _ => Err("too long".to_owned()),
    }
}

/// Seconds, more than none.
pub fn some_seconds(text: &str) -> Result<f64, String> {
    match seconds(text)? {
        0.0 => Err("it has to take some time, if only 1ns".to_owned()),
        seconds => Ok(seconds),
    }
}

/// The wall time of a job: `2:00:00`, `1-12:00:00`, `90m`, `2h`. A plain number is refused: Slurm means minutes, and a
/// person who has just typed `--start 30` means seconds.
pub fn wall(text: &str) -> Result<f64, String> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("minutes or seconds? Write {text}m, {text}s, or hours:minutes:seconds"));
    }
    let (days, clock) = text.split_once('-').unwrap_or(("0", text));
    if !clock.contains(':') {
        return some_seconds(text);
    }
    let parts: Option<Vec<u32>> = [days].into_iter().chain(clock.split(':')).map(|part| part.parse().ok()).collect();
    match parts.as_deref() {
        Some([0, 0, 0, 0]) => Err("a job needs some time".to_owned()),
        Some([days, hours, minutes, seconds]) if *minutes < 60 && *seconds < 60 => {
            Ok(86400.0 * f64::from(*days) + 3600.0 * f64::from(*hours) + f64::from(60 * minutes + seconds))
        }
        _ => Err("not a time such as 2:00:00 (hours:minutes:seconds), 1-12:00:00, 90m or 2h".to_owned()),
    }
}

/// A length of time in words, with about three digits.
pub fn time(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match seconds {
        0.0 => "0 s".to_owned(),
        ..999.5e-9 => format!("{} ns", digits(seconds * 1e9)),
        ..999.5e-6 => format!("{} µs", digits(seconds * 1e6)),
        ..999.5e-3 => format!("{} ms", digits(seconds * 1e3)),
        ..59.95 => format!("{} s", digits(seconds)),
        ..3599.5 => format!("{} min {:02} s", whole / 60, whole % 60),
        ..86370.0 => format!("{} h {:02} min", (whole + 30) / 3600, (whole + 30) / 60 % 60),
        1e8.. => amount(seconds / (365.25 * 86400.0), "years"),
        _ => format!("{} d {:02} h", (whole + 1800) / 86400, (whole + 1800) / 3600 % 24),
    }
}

/// What work costs: core hours, where there are some.
pub fn work(seconds: f64) -> String {
    if seconds < 3600.0 { format!("{} of one core", time(seconds)) } else { amount(seconds / 3600.0, "core hours") }
}

/// A time as Slurm writes it.
pub fn clock(seconds: f64) -> String {
    let whole = seconds.ceil() as u64;
    let (days, hours, minutes, seconds) = (whole / 86400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    let days = if days == 0 { String::new() } else { format!("{days}-") };
    format!("{days}{hours}:{minutes:02}:{seconds:02}")
}

/// A whole number with its thousands set apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).unwrap_or("?")).collect();
    groups.join(",")
}

pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn amount(number: f64, of_what: &str) -> String {
    if number < 99.95 {
        format!("{} {of_what}", digits(number))
    } else {
        format!("{} {of_what}", grouped(number as u64))
    }
}

/// Three digits of a number below a thousand.
fn digits(number: f64) -> String {
    let decimals = if number < 9.995 { 2 } else { usize::from(number < 99.95) };
    let text = format!("{number:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Seconds since 1970 as a date and time (Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`).
pub fn date(seconds: u64) -> String {
    let (days, clock) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", clock / 3600, clock / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_868_799), "2000-02-29 23:59 UTC");
        assert_eq!(date(1_795_219_200), "2026-11-21 00:00 UTC");
    }

    #[test]
    fn counts_are_read_as_people_write_them() {
        for (text, number) in [("0", 0), ("1_000", 1000), ("1e9", 1_000_000_000), ("2.5e6", 2_500_000), ("1.1k", 1100)]
        {
            assert_eq!(whole(text), Ok(number), "{text}");
        }
        assert_eq!(whole("18446744073709551615"), Ok(u64::MAX));
        for text in ["", "-1", "1.5", "1e-3", "nan", "inf", "1e300", "12x", "k"] {
            assert!(whole(text).is_err(), "{text}");
        }
        assert!(positive("0").is_err());
    }

    #[test]
    fn times_are_read_with_their_units() {
        for (text, length) in [("420ns", 420e-9), ("1.5us", 1.5e-6), ("1.5µs", 1.5e-6), ("2 ms", 2e-3), ("1e-3", 1e-3)]
        {
            assert!((seconds(text).unwrap() / length - 1.0).abs() < 1e-12, "{text}");
        }
        for text in ["", "s", "-1s", "3 weeks", "nan", "inf", "1e400s"] {
            assert!(seconds(text).is_err(), "{text}");
        }
        for (text, length) in [("2:00:00", 7200.0), ("1-12:00:01", 129_601.0), ("90m", 5400.0), ("2h", 7200.0)] {
            assert_eq!(wall(text), Ok(length), "{text}");
        }
        for text in ["90", "1:30", "0:00:00", "0s", "1:60:00", "-5m", "x", "1-", "1:2:3:4"] {
            assert!(wall(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_written_with_about_three_digits() {
        let written = [0.0, 420e-9, 1.5e-6, 0.9999, 59.94, 59.99, 3599.7, 86390.0, 200_000.0].map(time);
        let expected = ["0 s", "420 ns", "1.5 µs", "1 s", "59.9 s", "1 min 00 s", "1 h 00 min", "1 d 00 h", "2 d 08 h"];
        assert_eq!(written, expected);
        assert_eq!([90.0, 90_000.4].map(clock), ["0:01:30", "1-1:00:01"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([7200.0, 3.6e9].map(work), ["2 core hours", "1,000,000 core hours"]);
    }
}
