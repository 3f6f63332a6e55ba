//! Sizes, durations and points in time as people read them.

use std::time::SystemTime;

/// Seconds since 1970; 0 for times before.
pub fn seconds(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

/// Local time in the form of the C locale: `Sat Nov 21 04:14:32 2026`.
pub fn date(seconds: i64) -> String {
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    // SAFETY: all zero is a valid `tm`.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for the call; localtime_r is the reentrant form.
    if unsafe { libc::localtime_r(&raw const seconds, &raw mut tm).is_null() } {
        return format!("{seconds} s after 1970");
    }
    let name = |list: &[&'static str], i: libc::c_int| {
        usize::try_from(i).ok().and_then(|i| list.get(i)).copied().unwrap_or("???")
    };
    format!(
        "{} {} {:2} {:02}:{:02}:{:02} {}",
        name(&DAYS, tm.tm_wday),
        name(&MONTHS, tm.tm_mon),
        tm.tm_mday,
        tm.tm_hour,
        tm.tm_min,
        tm.tm_sec,
        i64::from(tm.tm_year) + 1900
    )
}

/// ` (x KB)` and so on from 1024 octets upward, nothing below.
pub fn octets(count: u64) -> String {
    scale(count, 1024, &[(1 << 10, "KB"), (1 << 20, "MB"), (1 << 30, "GB"), (1 << 40, "TB")])
}

/// ` (x minutes)` and so on from a minute upward, nothing below.
pub fn duration(seconds: u64) -> String {
    scale(seconds, 60, &[(60, "minutes"), (3600, "hours"), (86_400, "days")])
}

fn scale(count: u64, least: u64, units: &[(u64, &str)]) -> String {
    match units.iter().rev().find(|(unit, _)| count >= *unit) {
        Some((unit, name)) if count >= least => format!(" ({:.2} {name})", count as f64 / *unit as f64),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_grow_with_the_count() {
        assert_eq!(octets(1023), "");
        assert_eq!(octets(2048), " (2.00 KB)");
        assert_eq!(octets(5 << 30), " (5.00 GB)");
        assert_eq!(duration(59), "");
        assert_eq!(duration(90), " (1.50 minutes)");
        assert_eq!(duration(28_800), " (8.00 hours)");
    }

    #[test]
    fn dates_have_five_parts() {
        let text = date(1_800_000_000);
        assert_eq!(text.split_whitespace().count(), 5, "{text}");
        assert!(text.ends_with("2027"), "{text}");
    }
}
