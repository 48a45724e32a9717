//! The text of a table: decompression, decoding, and detection of comments, columns of spaces and separator.

use std::io::Read;

use ::csv::{ByteRecord, ReaderBuilder};
use flate2::read::MultiGzDecoder;

use crate::error::{Error, Result};

/// Upper limit of an unpacked table: 2 GiB. Positions in it fit a `u32`.
pub(super) const MAX_BYTES: u64 = 2 << 30;
/// Possible separators, in order of preference where several fit equally well.
const SEPARATORS: [u8; 4] = *b";\t|,";
/// Number of bytes that the separator is detected from.
const SAMPLE: usize = 256 << 10;

/// The decoded text of a file, with notices for the user.
pub(super) struct Text {
    pub text: String,
    pub notices: Vec<String>,
}

/// Reads a text in UTF-8, UTF-16 or Latin-1, gzipped or not.
pub(super) fn read(file: &str, input: &mut dyn Read) -> Result<Text> {
    let mut bytes = limited(file, input)?;
    if bytes.starts_with(&crate::data::GZIP) {
        bytes = limited(file, &mut MultiGzDecoder::new(&bytes[..])).map_err(|error| match error {
            Error::Io { source, .. } => Error::format(file, format!("a damaged gzip file: {source}")),
            error => error,
        })?;
    }
    if let Some(binary) = binary_kind(&bytes) {
        return Err(Error::format(file, format!("it is {binary} and no text: save the table as CSV")));
    }
    let mut notices = Vec::new();
    let mut text = decode(bytes, &mut notices).map_err(|problem| Error::format(file, problem))?;
    if text.contains('\0') {
        return Err(Error::format(file, "it holds zero bytes and is not text: save the table as CSV"));
    }
    if !text.contains('\n') && text.contains('\r') {
        text = text.replace('\r', "\n"); // line ends of the old Mac OS
    }
    if has_columns_of_spaces(&text) {
        text = text.lines().map(|line| words(line).join("\t") + "\n").collect();
    }
    Ok(Text { text, notices })
}

/// Returns true if spaces separate the values, one or more: if no other separator does, all lines have as many values, and
/// numbers stand side by side in most.
fn has_columns_of_spaces(text: &str) -> bool {
    let lines = || text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).take(200);
    let is_number = |word: &str| word.parse::<f64>().is_ok();
    let has_neighbours = |line: &str| {
        line.split('\t').any(|part| words(part).windows(2).any(|pair| pair.iter().all(|word| is_number(word))))
    };
    let Some(last) = lines().last().map(|line| words(line).len()) else { return false };
    let (all, numeric) = (lines().count(), lines().filter(|line| has_neighbours(line)).count());
    last >= 2
        && 10 * numeric >= 9 * (all - 1)
        && numeric > 0
        && lines().all(|line| !line.contains([',', ';', '|']) && words(line).len() == last)
}

/// The words of a line, of which one in quotes may have spaces.
fn words(line: &str) -> Vec<&str> {
    let mut is_quoted = false;
    let is_between = |letter: char| {
        is_quoted ^= letter == '"';
        !is_quoted && letter.is_ascii_whitespace()
    };
    line.split(is_between).filter(|word| !word.is_empty()).collect()
}

fn limited(file: &str, input: &mut dyn Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(Error::io("read", file))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::format(file, format!("more than {MAX_BYTES} bytes, which is the limit of a table")));
    }
    Ok(bytes)
}

fn decode(mut bytes: Vec<u8>, notices: &mut Vec<String>) -> std::result::Result<String, String> {
    // Without a byte order mark, UTF-16 is recognised by the zero bytes of its first characters, which are mostly
    // ASCII.
    match &bytes[..] {
        [0xff, 0xfe, rest @ ..] => return utf_16("UTF-16LE", rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => return utf_16("UTF-16BE", rest, u16::from_be_bytes),
        [1..=255, 0, 1..=255, 0, ..] => return utf_16("UTF-16LE", &bytes, u16::from_le_bytes),
        [0, 1..=255, 0, 1..=255, ..] => return utf_16("UTF-16BE", &bytes, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, ..] => drop(bytes.drain(..3)),
        _ => {}
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => {
            notices.push("the text is not UTF-8: it is read as Windows-1252 (Latin-1)".into());
            Ok(error.as_bytes().iter().map(|&byte| windows_1252(byte)).collect())
        }
    }
}

/// Decodes UTF-16, `name`, whose units are in the byte order of `unit`.
fn utf_16(name: &str, bytes: &[u8], unit: fn([u8; 2]) -> u16) -> std::result::Result<String, String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let text: std::result::Result<String, _> = char::decode_utf16(pairs.iter().map(|&pair| unit(pair))).collect();
    text.ok().filter(|_| rest.is_empty()).ok_or_else(|| format!("it is damaged: no whole {name} text"))
}

/// Decodes a byte of Windows-1252: Latin-1, with characters in place of most of its second block of control codes.
fn windows_1252(byte: u8) -> char {
    const SECOND_BLOCK: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘',
        '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9f => SECOND_BLOCK[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

/// The line with the separator that Excel writes, and the comments and empty lines before the header or first row.
pub(super) struct Preamble<'a> {
    /// The separator that the line `sep=;` names.
    pub separator: Option<u8>,
    /// The text after the preamble.
    pub body: &'a str,
    /// Number of lines in the preamble.
    pub lines: u64,
    /// Number of comments in the preamble.
    pub comments: usize,
    /// The last comment, without `#`.
    pub last: Option<&'a str>,
}

impl<'a> Preamble<'a> {
    pub fn of(text: &'a str) -> Self {
        let mut preamble = Self { separator: None, body: text, lines: 0, comments: 0, last: None };
        if let Some((separator, rest)) = named_separator(text) {
            (preamble.separator, preamble.body, preamble.lines) = (Some(separator), rest, 1);
        }
        while preamble.body.starts_with('#') || preamble.body.starts_with(['\n', '\r']) && preamble.comments > 0 {
            let (line, rest) = preamble.body.split_once('\n').unwrap_or((preamble.body, ""));
            if let Some(comment) = line.strip_prefix('#') {
                (preamble.comments, preamble.last) = (preamble.comments + 1, Some(comment.trim()));
            }
            (preamble.body, preamble.lines) = (rest, preamble.lines + 1);
        }
        preamble
    }
}

/// The separator that a first line `sep=;` names, as Excel writes and reads it, and the text after that line.
fn named_separator(text: &str) -> Option<(u8, &str)> {
    let (line, rest) = text.split_once('\n')?;
    let line = line.trim_end_matches('\r');
    let line = line.strip_prefix('"').and_then(|line| line.strip_suffix('"')).unwrap_or(line);
    let (name, separator) = line.split_at_checked(4)?;
    let [separator] = *separator.as_bytes() else { return None };
    let is_separator = separator == b'\t' || separator.is_ascii_punctuation() && separator != b'"';
    (name.eq_ignore_ascii_case("sep=") && is_separator).then_some((separator, rest))
}

/// Number of lines before the header or first row of a table in UTF-8.
pub(in crate::data) fn lines_before_header(text: &str) -> usize {
    Preamble::of(text.strip_prefix('\u{feff}').unwrap_or(text)).lines as usize
}

/// Name of a kind of file that people take for a table but is no text, by its first bytes.
pub fn binary_kind(start: &[u8]) -> Option<&'static str> {
    match start {
        [b'P', b'K', 3, 4, ..] => Some("a ZIP or Excel file"),
        [0xd0, 0xcf, 0x11, 0xe0, ..] => Some("an old Excel file"),
        [b'P', b'A', b'R', b'1', ..] => Some("a Parquet file"),
        _ => None,
    }
}

/// Reader of the records of a text.
pub(super) fn records(text: &str, separator: u8) -> ::csv::Reader<&[u8]> {
    ReaderBuilder::new().delimiter(separator).has_headers(false).flexible(true).from_reader(text.as_bytes())
}

/// Detects the separator: the one that makes records of equal length; of several such, the one that makes the most
/// values. `is_header` returns true for a record with the names of required columns.
pub(super) fn separator(text: &str, is_header: impl Fn(&ByteRecord) -> bool) -> u8 {
    let cut = (0..=SAMPLE.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let sample = &text[..cut];
    let mut candidates = Vec::new();
    for separator in SEPARATORS.into_iter().filter(|&separator| sample.as_bytes().contains(&separator)) {
        let mut reader = records(sample, separator);
        let mut record = ByteRecord::new();
        let mut lengths = Vec::new();
        let mut is_named = false;
        while lengths.len() < 200 && matches!(reader.read_byte_record(&mut record), Ok(true)) {
            is_named |= lengths.is_empty() && is_header(&record);
            if lengths.is_empty() || record.get(0).is_none_or(|first| !first.starts_with(b"#")) {
                lengths.push(record.len());
            }
        }
        if cut < text.len() && lengths.len() > 1 && lengths.len() < 200 {
            lengths.pop(); // the end of the sample may have cut it
        }
        let Some((&first, rest)) = lengths.split_first() else { continue };
        let count = |length: usize| rest.iter().filter(|&&other| other == length).count();
        let most = rest.iter().copied().max_by_key(|&length| (count(length), length)).unwrap_or(first);
        // The column of row names may be unnamed, and lines may end with a separator.
        let fits = most >= 2 && first.abs_diff(most) <= 1 && 10 * count(most) >= 9 * rest.len();
        candidates.push((is_named, fits, first == most, if fits { most } else { first }, separator));
    }
    // If every comma is between digits and another separator fits, commas are decimal.
    let commas_are_decimal = || {
        let bytes = sample.as_bytes();
        let is_digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
        let mut commas = (0..bytes.len()).filter(|&at| bytes[at] == b',');
        commas.all(|at| is_digit(at.checked_sub(1)) && is_digit(Some(at + 1)))
    };
    if candidates.iter().any(|&(is_named, fits, .., separator)| (fits || is_named) && separator != b',')
        && commas_are_decimal()
    {
        candidates.retain(|&(.., separator)| separator != b',');
    }
    let order = |separator| SEPARATORS.iter().rposition(|&other| other == separator);
    let best = candidates.into_iter().max_by_key(|&(is_named, fits, whole, length, separator)| {
        (is_named, fits, whole, length, std::cmp::Reverse(order(separator)))
    });
    best.filter(|&(.., length, _)| length >= 2).map_or(b',', |(.., separator)| separator)
}

/// Line of a quote that is never closed, which would turn everything after it into one value. As in the `csv` crate, a
/// quote counts at the start of a value, and two of them stand for one within a value.
pub(super) fn open_quote(bytes: &[u8], separator: u8) -> Option<u64> {
    enum State {
        Start,
        Within,
        Quoted(u64),
        /// After a quote that ends the value, unless it is the first of two.
        Closed(u64),
    }
    use State::{Closed, Quoted, Start, Within};
    if !bytes.contains(&b'"') {
        return None;
    }
    let (mut line, mut state) = (1, Start);
    for &byte in bytes {
        line += u64::from(byte == b'\n');
        state = match (state, byte) {
            (Start, b'"') => Quoted(line),
            (Quoted(line), b'"') => Closed(line),
            (Closed(line), b'"') | (Quoted(line), _) => Quoted(line),
            (_, byte) if byte == separator || byte == b'\r' || byte == b'\n' => Start,
            _ => Within,
        };
    }
    match state {
        Quoted(line) => Some(line),
        Start | Within | Closed(_) => None,
    }
}

/// Line of a record: a position precedes the empty lines that the reader skips.
pub(super) fn line(bytes: &[u8], position: &::csv::Position) -> u64 {
    let rest = bytes.get(position.byte() as usize..).unwrap_or_default();
    let skipped = rest.iter().take_while(|byte| b"\r\n".contains(byte)).filter(|&&byte| byte == b'\n');
    position.line() + skipped.count() as u64
}
