//! `strftime_now(format)`: the time in UTC, in the directives of Python's `strftime` and
//! of glibc, which it calls.

use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::Error;

use super::bounds::Text;

const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const MAX_TEXT: usize = 64 << 10;

/// A moment as calendar fields, UTC.
struct Moment {
    year: i64,
    /// 1 to 12.
    month: u64,
    /// 1 to 31.
    day: u64,
    /// 1 to 366.
    day_of_year: u64,
    /// 0 is Sunday.
    weekday: u64,
    hour: u64,
    minute: u64,
    second: u64,
    unix: u64,
}

/// Seconds since 1970 on the system's clock; 0 if it is set before that.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs())
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

impl Moment {
    fn new(unix: u64) -> Self {
        let days = unix / 86_400;
        // Years repeat every 400 years, which are 146,097 days.
        let mut year = 1970 + (days / 146_097 * 400) as i64;
        let mut left = days % 146_097;
        loop {
            let length = if is_leap(year) { 366 } else { 365 };
            if left < length {
                break;
            }
            left -= length;
            year += 1;
        }
        let day_of_year = left + 1;
        let mut month = 1;
        loop {
            let length = match month {
                2 => 28 + u64::from(is_leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            if left < length {
                break;
            }
            left -= length;
            month += 1;
        }
        let second = unix % 86_400;
        Moment {
            year,
            month,
            day: left + 1,
            day_of_year,
            weekday: (days + 4) % 7,
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
            unix,
        }
    }

    /// Year and week of ISO 8601: weeks start on Monday, and the first of a year is that
    /// of its first Thursday.
    fn iso_week(&self) -> (i64, u64) {
        let weekday = (self.weekday + 6) % 7;
        // The day of the year of this week's Thursday, 1 and more in the same year.
        let thursday = self.day_of_year as i64 + 3 - weekday as i64;
        let length = |year| if is_leap(year) { 366 } else { 365 };
        let (year, day) = match thursday {
            ..=0 => (self.year - 1, thursday + length(self.year - 1)),
            day if day > length(self.year) => (self.year + 1, day - length(self.year)),
            day => (self.year, day),
        };
        (year, (day as u64).div_ceil(7))
    }

    fn directive(&self, directive: char) -> Option<String> {
        let weekday = WEEKDAYS[self.weekday as usize];
        let month = MONTHS[self.month as usize - 1];
        let hour12 = (self.hour + 11) % 12 + 1;
        let (year, hour, minute, second) = (self.year, self.hour, self.minute, self.second);
        Some(match directive {
            'a' => weekday[..3].to_owned(),
            'A' => weekday.to_owned(),
            'b' | 'h' => month[..3].to_owned(),
            'B' => month.to_owned(),
            'C' => format!("{:02}", year / 100),
            'd' => format!("{:02}", self.day),
            'e' => format!("{:2}", self.day),
            'D' | 'x' => format!("{:02}/{:02}/{:02}", self.month, self.day, year % 100),
            'f' => "000000".to_owned(),
            'F' => format!("{year}-{:02}-{:02}", self.month, self.day),
            'H' => format!("{hour:02}"),
            'I' => format!("{hour12:02}"),
            'j' => format!("{:03}", self.day_of_year),
            'm' => format!("{:02}", self.month),
            'M' => format!("{minute:02}"),
            'n' => "\n".to_owned(),
            'p' => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            'R' => format!("{hour:02}:{minute:02}"),
            's' => self.unix.to_string(),
            'c' => format!(
                "{} {} {:2} {hour:02}:{minute:02}:{second:02} {year}",
                &weekday[..3],
                &month[..3],
                self.day
            ),
            'k' => format!("{hour:2}"),
            'l' => format!("{hour12:2}"),
            'U' => format!("{:02}", (self.day_of_year + 6 - self.weekday) / 7),
            'W' => format!("{:02}", (self.day_of_year + 6 - (self.weekday + 6) % 7) / 7),
            'V' => format!("{:02}", self.iso_week().1),
            'G' => self.iso_week().0.to_string(),
            'g' => format!("{:02}", self.iso_week().0 % 100),
            'r' => format!(
                "{hour12:02}:{minute:02}:{second:02} {}",
                if hour < 12 { "AM" } else { "PM" }
            ),
            'S' => format!("{second:02}"),
            't' => "\t".to_owned(),
            'T' | 'X' => format!("{hour:02}:{minute:02}:{second:02}"),
            'u' => (if self.weekday == 0 { 7 } else { self.weekday }).to_string(),
            'w' => self.weekday.to_string(),
            'y' => format!("{:02}", year % 100),
            'Y' => year.to_string(),
            // `datetime.now()` has no zone, so these are empty.
            'z' | 'Z' => String::new(),
            '%' => "%".to_owned(),
            _ => return None,
        })
    }
}

/// `unix` seconds since 1970 in the words of `format`. `-` after the percent
/// sign leaves out padding, as in glibc.
pub(super) fn strftime(unix: u64, format: &str) -> Result<String, Error> {
    let moment = Moment::new(unix);
    let mut out = Text::new(MAX_TEXT);
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push_char(letter)?;
            continue;
        }
        let mut directive = letters.next();
        let unpadded = directive == Some('-');
        if unpadded {
            directive = letters.next();
        }
        // What is no directive stays, as in glibc.
        let text = match directive {
            Some(directive) => moment
                .directive(directive)
                .unwrap_or_else(|| format!("%{}{directive}", if unpadded { "-" } else { "" })),
            None => "%".to_owned(),
        };
        let trimmed = text.trim_start_matches(['0', ' ']);
        match (unpadded, trimmed) {
            (false, _) => out.push(&text)?,
            (true, "") => out.push("0")?,
            (true, _) => out.push(trimmed)?,
        }
    }
    Ok(out.text)
}
