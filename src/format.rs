//! Number formats of terminal output and pages.

use indicatif::HumanCount;
use softstep::metrics::interval;

/// Text of an undefined number.
pub const UNDEFINED: &str = "–";

/// Formats a number with separators, as in `60,000`.
pub fn count(number: usize) -> String {
    HumanCount(number as u64).to_string()
}

/// Formats a number with its noun, as in `1 step` and `2 steps`.
pub fn counted(number: usize, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Formats the number per second.
pub fn rate(number: usize, seconds: f64) -> String {
    count((number as f64 / seconds).round() as usize)
}

/// Formats a share as in `97.50 %`.
pub fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share).replace('-', "−")
}

/// Formats the 95 % interval of an accuracy, as in `95 % interval 96.1 to 98.9 %`.
pub fn interval_text(correct: usize, examples: usize) -> String {
    match interval(correct, examples) {
        Some([low, high]) => format!("95 % interval {:.1} to {:.1} %", 100.0 * low, 100.0 * high),
        None => "no example".into(),
    }
}

/// Formats a loss or R² with four decimals; a very large one in scientific notation.
pub fn figure(number: f64) -> String {
    let text = if number.abs() < 1e5 || !number.is_finite() { format!("{number:.4}") } else { format!("{number:.3e}") };
    text.replace('-', "−")
}

/// Formats a number with `digits` significant digits, in scientific notation if it is very small or large.
pub fn significant(number: f64, digits: usize) -> String {
    let before = if number != 0.0 && number.is_finite() { number.abs().log10().floor() } else { 0.0 };
    match before {
        -5.0..9.0 => format!("{number:.*}", (digits as f64 - 1.0 - before).max(0.0) as usize),
        _ => format!("{number:.*e}", digits - 1),
    }
}

/// Formats a measured speed or time: one decimal below 100, none above.
pub fn short(number: f64) -> String {
    if number < 100.0 { format!("{number:.1}") } else { count(number.round() as usize) }
}

/// Formats a number with `digits` significant digits, without trailing zeros.
pub fn number(number: f64, digits: i32) -> String {
    if number == 0.0 || !number.is_finite() {
        return plain(number, 0.0);
    }
    rounded(number, 10f64.powi(number.abs().log10().floor() as i32 + 1 - digits))
}

/// Formats a number with four decimals, as in a table; with four significant digits if it is too small or too large for
/// that.
pub fn four_decimals(value: f64) -> String {
    match value.abs() {
        0.0 | 1e-4..1e7 => format!("{value:.4}").replace('-', "−"),
        _ => number(value, 4),
    }
}

/// Formats a number rounded to a multiple of `step`, without trailing zeros.
pub fn rounded(number: f64, step: f64) -> String {
    let multiple = (number / step).round() * step;
    let text = plain(if multiple.is_finite() { multiple } else { number }, step);
    if text.contains('.') && !text.contains('e') {
        return text.trim_end_matches('0').trim_end_matches('.').into();
    }
    text
}

/// Formats a number with as many digits as distinguish it from others a `step` away; a step of 0 means that one digit
/// is enough.
pub fn plain(number: f64, step: f64) -> String {
    let size = number.abs();
    if number == 0.0 {
        return "0".into();
    }
    if !number.is_finite() {
        return "–".into();
    }
    if !(1e-4..1e7).contains(&size) {
        let digits =
            if step > 0.0 { (size.log10().floor() - step.log10().floor()).clamp(0.0, 15.0) as usize } else { 3 };
        let text = format!("{number:.digits$e}").replace('-', "−");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        let digits = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
        return format!("{digits}e{power}");
    }
    let distance = if step > 0.0 { step.min(size) } else { size };
    let decimals = (-(distance.log10() + 1e-9).floor()).max(0.0) as usize;
    let text = format!("{size:.decimals$}");
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), String::new()), |(whole, rest)| {
        let rest = if step > 0.0 { rest } else { rest.trim_end_matches('0') };
        (whole, if rest.is_empty() { String::new() } else { format!(".{rest}") })
    });
    let whole = whole.parse().map_or_else(|_| whole.to_string(), |whole| HumanCount(whole).to_string());
    format!("{}{whole}{rest}", if number < 0.0 { "−" } else { "" })
}

/// A time as people read it.
pub fn duration(seconds: f64) -> String {
    match seconds {
        ..0.1 => format!("{} ms", number(1e3 * seconds, 2)),
        ..60.0 => format!("{} s", number(seconds, 3)),
        ..3600.0 => format!("{} min {:02.0} s", (seconds / 60.0).floor(), (seconds % 60.0).floor()),
        _ => format!("{} h {:02.0} min", (seconds / 3600.0).floor(), (seconds % 3600.0 / 60.0).floor()),
    }
}

/// Marks a name as text for a spreadsheet that would compute it as a formula.
pub fn no_formula(name: &str) -> String {
    let is_formula = name.trim_start().starts_with(['=', '+', '-', '@']);
    if is_formula { format!("'{name}") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_mean_something() {
        let cases = [
            (0.0, 3, "0"),
            (1.0, 3, "1"),
            (0.26934, 3, "0.269"),
            (5291.37, 3, "5,290"),
            (-0.5, 2, "−0.5"),
            (1234567.0, 7, "1,234,567"),
            (2.5e-7, 3, "2.5e−7"),
            (-123456789.0, 2, "−1.2e8"),
            (123456789.0, 6, "1.23457e8"),
            (4e7, 1, "4e7"),
            (1e12, 3, "1e12"),
            (f64::NAN, 3, "–"),
            (99.96, 3, "100"),
            (f64::INFINITY, 3, "–"),
            (-1200.0, 2, "−1,200"),
            (100.0, 1, "100"),
        ];
        for (value, digits, text) in cases {
            assert_eq!(number(value, digits), text);
        }
        for (value, text) in [(0.25, "0.2500"), (-0.5, "−0.5000"), (8624184679350457344.0, "8.624e18"), (3e-6, "3e−6")]
        {
            assert_eq!(four_decimals(value), text);
        }
        assert_eq!([figure(-0.25), percent(-0.25)], ["−0.2500", "−25.00 %"]);
        assert_eq!(rounded(19.499999, 1e-4), "19.5");
        assert_eq!(rounded(-3e-9, 1e-4), "0");
    }
}
