//! Number formats of tables: thousands separators, currencies, percentages, decimal commas, dates and booleans.

use crate::data::Form;

/// Currency signs that may precede or follow a number.
const CURRENCIES: [char; 8] = ['$', '€', '£', '¥', '₹', '₽', '₩', '₺'];
/// First three letters of the English month names.
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Markers of missing values that are read in upper and lower case.
const IN_ANY_CASE: [&str; 7] = ["n/a", "nan", "-nan", "null", "<na>", "#n/a", "#na"];

/// Returns true if a text marks a missing value: the markers of pandas, R, spreadsheets and people.
pub(super) fn is_gap(text: &str) -> bool {
    match text {
        "" | "?" | "-" | "NA" | "na" => true,
        _ if text.len() > 5 => false,
        _ => IN_ANY_CASE.iter().any(|gap| text.eq_ignore_ascii_case(gap)),
    }
}

/// Every text that marks a missing value in a column of texts but the empty one, for programs that compare texts as
/// they are.
pub fn gap_texts() -> Vec<String> {
    let mut texts: Vec<String> = ["?", "-", "NA", "na"].map(String::from).to_vec();
    for gap in IN_ANY_CASE {
        let mut cases = vec![String::new()];
        for character in gap.chars() {
            let (lower, upper) = (character, character.to_ascii_uppercase());
            let both = if lower == upper { vec![lower] } else { vec![lower, upper] };
            cases = cases.iter().flat_map(|start| both.iter().map(move |end| format!("{start}{end}"))).collect();
        }
        texts.extend(cases);
    }
    texts
}

/// Returns true if a text marks a missing value among numbers, where more markers are known.
pub(super) fn is_number_gap(text: &str) -> bool {
    is_gap(text) || matches!(text, "." | "--" | "---") || text.eq_ignore_ascii_case("none")
}

/// Parses a value as a finite number in this format.
pub(super) fn parse(form: Form, text: &str) -> Option<f64> {
    match form {
        Form::Number => plain(text).or_else(|| dressed(text, '.')),
        Form::DecimalComma => dressed(text, ','),
        Form::Boolean if text.eq_ignore_ascii_case("true") => Some(1.0),
        Form::Boolean if text.eq_ignore_ascii_case("false") => Some(0.0),
        Form::Boolean => None,
        Form::YearMonthDay | Form::DayMonthYear | Form::MonthDayYear => days(text, form),
    }
}

/// Returns true if a number has dots or commas between its thousands in this format.
pub(super) fn has_thousands(form: Form, text: &str) -> bool {
    let separator = match form {
        Form::Number => ',',
        Form::DecimalComma => '.',
        _ => return false,
    };
    text.contains(separator) && parse(form, text).is_some()
}

/// Returns true if a number with thousands separators in this format is another number in the format of the other
/// decimal mark: `1,234` is 1234 or 1.234.
pub(super) fn is_ambiguous(form: Form, text: &str) -> bool {
    has_thousands(form, text) && parse(other_mark(form), text).is_some()
}

/// The format with the other decimal mark.
pub(super) fn other_mark(form: Form) -> Form {
    if form == Form::DecimalComma { Form::Number } else { Form::DecimalComma }
}

/// Parses a plain finite number, as programs write them.
pub(super) fn plain(text: &str) -> Option<f64> {
    let bytes = text.as_bytes();
    // A fast path for most numbers of most tables: up to 15 digits are exact, as in the general parser.
    if (1..=15).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_digit) {
        return Some(bytes.iter().fold(0, |number, &digit| 10 * number + u64::from(digit - b'0')) as f64);
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Parses a number with thousands separators, a currency sign, a per cent sign, or the parentheses of a negative number
/// in accounting.
fn dressed(text: &str, decimal: char) -> Option<f64> {
    let mut rest = text.trim();
    let mut negative = false;
    if let Some(inner) = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        (rest, negative) = (inner.trim(), true);
    }
    let mut signed = negative;
    // A sign may precede or follow the currency.
    for _ in 0..2 {
        if let Some(other) = rest.strip_prefix(['-', '−', '+'])
            && !signed
        {
            (negative, signed) = (!rest.starts_with('+'), true);
            rest = other.trim_start();
        }
        rest = rest.strip_prefix(CURRENCIES).unwrap_or(rest).trim_start();
    }
    rest = rest.strip_suffix('%').unwrap_or(rest).trim_end();
    rest = rest.strip_suffix(CURRENCIES).unwrap_or(rest).trim_end();
    let (digits, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, "0"),
    };
    let (whole, fraction) = digits.split_once(decimal).unwrap_or((digits, ""));
    let whole = ungrouped(whole, if decimal == '.' { ',' } else { '.' })?;
    if whole.is_empty() && fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: f64 = format!("{whole}.{fraction}e{exponent}").parse().ok()?;
    number.is_finite().then_some(if negative { -number } else { number })
}

/// Returns the digits of a whole number. Thousands may be separated: groups of three after a first group without a
/// leading 0.
fn ungrouped(text: &str, separator: char) -> Option<String> {
    let is_separator =
        |character: &char| *character == separator || [' ', '\u{a0}', '\u{202f}', '\'', '’'].contains(character);
    let Some(separator) = text.chars().find(is_separator) else {
        return text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.into());
    };
    let mut groups = text.split(separator);
    let first = groups.next()?;
    let is_first = (1..=3).contains(&first.len()) && !first.starts_with('0');
    let digits: String = groups.clone().fold(first.into(), |digits, group| digits + group);
    let is_grouped = is_first && groups.all(|group| group.len() == 3);
    (is_grouped && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(digits)
}

/// Parses a date to days since 1970-01-01, with the time of day as a fraction.
fn days(text: &str, order: Form) -> Option<f64> {
    let (date, time) = match text.find(':') {
        Some(at) => {
            let cut = text[..at].rfind([' ', 'T', 't'])?;
            (&text[..cut], time(&text[cut + 1..])?)
        }
        None => (text, 0.0),
    };
    let date = date.trim_end_matches([',', ' ']);
    let mut parts = date.split(['-', '/', '.', ' ', ',']).filter(|part| !part.is_empty());
    let [first, second, third] = [parts.next()?, parts.next()?, parts.next()?];
    if parts.next().is_some() {
        return None;
    }
    let (year, month, day) = match (month(first), month(second)) {
        (None, Some(month)) => (third, month, first),
        (Some(month), None) => (third, month, second),
        _ => {
            let separator = date.find(['-', '/', '.']).map(|at| &date[at..=at])?;
            let is_one = date.matches(['-', '/', '.', ' ', ',']).all(|other| other == separator);
            let (year, month, day) = match order {
                Form::YearMonthDay => (first, second, third),
                Form::DayMonthYear => (third, second, first),
                // Dates with the month first are not written with dots.
                _ if separator == "." => return None,
                _ => (third, first, second),
            };
            let short_year = year.len() == 2 && separator == "/" && order != Form::YearMonthDay;
            if !is_one || !(year.len() == 4 || short_year) {
                return None;
            }
            (year, whole(month)?, day)
        }
    };
    let year = match (whole(year)?, year.len()) {
        (year, 4) => year,
        // The pivot year of POSIX.
        (year, 2) => year + if year < 69 { 2000 } else { 1900 },
        _ => return None,
    };
    Some(days_of(year, month, whole(day)?)? + time)
}

/// Parses a whole number of one to four digits.
fn whole(text: &str) -> Option<i64> {
    let is_whole = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_whole)
}

/// Number of a month by its English name or the first three letters of the name.
fn month(text: &str) -> Option<i64> {
    let is_word = text.len() >= 3 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    let start = text.get(..3).filter(|_| is_word)?;
    MONTHS.iter().position(|month| month.eq_ignore_ascii_case(start)).map(|at| at as i64 + 1)
}

/// Days from 1970-01-01 to a date in the Gregorian calendar.
fn days_of(year: i64, month: i64, day: i64) -> Option<f64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) || !(1..=9999).contains(&year) {
        return None;
    }
    // Counting years from March puts the leap day at the end of the year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let of_years = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some((of_years + (153 * month + 2) / 5 + day - 1 - 719_468) as f64)
}

/// Parses a time of day to a share of the day: `13:45`, `1:45 PM`, `13:45:59.25Z`, `13:45+01:00`.
fn time(text: &str) -> Option<f64> {
    let text = text.trim();
    let (text, zone) = match text.strip_suffix(['Z', 'z']).or_else(|| text.strip_suffix(" UTC")) {
        Some(text) => (text, 0.0),
        None => match text.rfind(['+', '-']) {
            Some(at) => {
                let offset = text[at + 1..].replace(':', "");
                let (hours, minutes) = offset.split_at_checked(2)?;
                let offset = whole(hours)? as f64 * 60.0 + if minutes.is_empty() { 0 } else { whole(minutes)? } as f64;
                (&text[..at], if text[at..].starts_with('-') { -offset } else { offset })
            }
            None => (text, 0.0),
        },
    };
    let half = |suffix: &str| {
        let cut = text.len().checked_sub(2)?;
        text.get(cut..).filter(|end| end.eq_ignore_ascii_case(suffix)).map(|_| text[..cut].trim_end())
    };
    let (text, shift) = match (half("am"), half("pm")) {
        (Some(text), _) => (text, Some(0)),
        (_, Some(text)) => (text, Some(12)),
        _ => (text, None),
    };
    let mut parts = text.split(':');
    let (hours, minutes) = (whole(parts.next()?)?, whole(parts.next()?)?);
    let seconds = match parts.next() {
        Some(text) if text.starts_with(|first: char| first.is_ascii_digit()) => plain(text)?,
        Some(_) => return None,
        None => 0.0,
    };
    let hours = match shift {
        Some(shift) if (1..=12).contains(&hours) => hours % 12 + shift,
        Some(_) => return None,
        None => hours,
    };
    let is_time = (0..24).contains(&hours) && (0..60).contains(&minutes) && (0.0..61.0).contains(&seconds);
    (is_time && parts.next().is_none())
        .then_some((hours as f64 * 60.0 + minutes as f64 - zone) / 1440.0 + seconds / 86_400.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_every_dress_and_nothing_else_is() {
        for (text, number) in [
            ("12", 12.0),
            ("-1.5e3", -1500.0),
            ("1,234", 1234.0),
            ("1,234,567.5", 1_234_567.5),
            ("$1.50", 1.5),
            ("-$1.50", -1.5),
            ("$-1.50", -1.5),
            ("(1,200)", -1200.0),
            ("12.5 %", 12.5),
            ("7%", 7.0),
            ("1 234.5", 1234.5),
            ("1\u{a0}234", 1234.0),
            ("1'234", 1234.0),
            ("20 €", 20.0),
            ("+3", 3.0),
            ("−3", -3.0),
            (".5", 0.5),
            ("999999999999999", 999_999_999_999_999.0),
        ] {
            assert_eq!(parse(Form::Number, text), Some(number), "{text}");
        }
        for (text, number) in
            [("1,5", 1.5), ("1.234,5", 1234.5), ("-0,25", -0.25), ("12", 12.0), ("1.234", 1234.0), ("3,5 %", 3.5)]
        {
            assert_eq!(parse(Form::DecimalComma, text), Some(number), "{text}");
        }
        for text in [
            "",
            "-",
            "1,23",
            "12,34,567",
            "0,123",
            "1,234 567",
            "inf",
            "nan",
            "1e999",
            "$",
            "%",
            "--1",
            "1.2.3",
            "a",
            "1-2",
            "(-1)",
        ] {
            assert_eq!(parse(Form::Number, text), None, "{text}");
        }
        for text in ["1.5", "0.123", "1,2,3", ",", "1,5x"] {
            assert_eq!(parse(Form::DecimalComma, text), None, "{text}");
        }
    }

    #[test]
    fn a_number_is_ambiguous_if_its_only_separator_may_be_a_decimal_mark() {
        for (form, text, thousands, ambiguous) in [
            (Form::Number, "1,234", true, true),
            (Form::Number, "-$1,234", true, true),
            (Form::Number, "1,234.5", true, false),
            (Form::Number, "1,234,567", true, false),
            (Form::Number, "1.234", false, false),
            (Form::Number, "1 234", false, false),
            (Form::Number, "1,23", false, false),
            (Form::DecimalComma, "1.234", true, true),
            (Form::DecimalComma, "1.234,5", true, false),
            (Form::DecimalComma, "1.234.567", true, false),
            (Form::DecimalComma, "1,234", false, false),
            (Form::DecimalComma, "0.234", false, false),
            (Form::DayMonthYear, "1.2.2020", false, false),
        ] {
            assert_eq!((has_thousands(form, text), is_ambiguous(form, text)), (thousands, ambiguous), "{text}");
        }
    }

    #[test]
    fn the_texts_of_gaps_are_gaps() {
        let texts = gap_texts();
        assert!(texts.iter().all(|text| is_gap(text)) && texts.contains(&"NaN".into()), "{texts:?}");
        assert_eq!(texts.iter().collect::<std::collections::BTreeSet<_>>().len(), texts.len());
        assert_eq!(texts.len(), 4 + 4 + 8 + 8 + 16 + 4 + 4 + 4);
    }

    #[test]
    fn dates_become_days_in_the_order_that_is_asked_for() {
        use Form::{DayMonthYear, MonthDayYear, YearMonthDay};
        for (order, text, days) in [
            (YearMonthDay, "1970-01-01", 0.0),
            (YearMonthDay, "2020/02/29", 18_321.0),
            (YearMonthDay, "1969-12-31", -1.0),
            (YearMonthDay, "2000-03-01T12:00:00Z", 11_017.5),
            (YearMonthDay, "2000-03-01 06:00", 11_017.25),
            (YearMonthDay, "1970-01-01T01:00+01:00", 0.0),
            (YearMonthDay, "1970-01-02 12:00:00 PM", 1.5),
            (DayMonthYear, "01.02.1970", 31.0),
            (DayMonthYear, "1/2/70", 31.0),
            (MonthDayYear, "1/2/1970", 1.0),
            (YearMonthDay, "2-Jan-1970", 1.0),
            (YearMonthDay, "January 2, 1970", 1.0),
            (DayMonthYear, "2 Feb 70", 32.0),
        ] {
            assert_eq!(parse(order, text), Some(days), "{text}");
        }
        for (order, text) in [
            (YearMonthDay, "2019-02-29"),
            (YearMonthDay, "2020-13-01"),
            (YearMonthDay, "20200101"),
            (YearMonthDay, "1-2-2020"),
            (DayMonthYear, "1.2.3"),
            (DayMonthYear, "1.2.10"),
            (MonthDayYear, "1.2.2020"),
            (DayMonthYear, "2020-01"),
            (YearMonthDay, "2020-01-01 25:00"),
            (DayMonthYear, "1/2"),
            (YearMonthDay, "a:b"),
            (YearMonthDay, "é:1"),
        ] {
            assert_eq!(parse(order, text), None, "{text}");
        }
    }
}
