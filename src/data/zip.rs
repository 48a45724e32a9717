//! ZIP archives, as far as `.npz` files are some: entries that are stored or deflated, found by the central directory at
//! the end. Source: PKWARE, APPNOTE.TXT 6.3.

use std::io::{Read, Seek, SeekFrom};

use flate2::CrcReader;
use flate2::read::DeflateDecoder;

use super::is_damage;
use crate::error::{Error, Result};

/// An entry of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Name of the entry.
    pub name: String,
    method: u16,
    crc: u32,
    compressed: u64,
    /// Offset of the entry's own header.
    header: u64,
}

/// The end record without its comment, and the longest comment.
const END: usize = 22;
const MAX_COMMENT: u64 = 0xffff;
const MAX_DIRECTORY: u64 = 64 << 20;

/// Lists the entries of an archive; `file` is what errors call it.
///
/// # Errors
/// [`Error::Format`] where it is no whole archive, or one of more than 4 GiB; [`Error::Io`].
pub(super) fn entries(file: &str, input: &mut (impl Read + Seek)) -> Result<Vec<Entry>> {
    let damaged = || Error::format(file, "no whole ZIP archive, as .npz files are: save it again");
    let length = input.seek(SeekFrom::End(0)).map_err(Error::io("read", file))?;
    let tail_at = length.saturating_sub(END as u64 + MAX_COMMENT);
    let tail = read_at(file, input, tail_at, length - tail_at)?;
    let end = tail.windows(END).rposition(|end| end.starts_with(b"PK\x05\x06")).ok_or_else(damaged)?;
    let end = &tail[end..];
    let (count, size, offset) = (number(end, 10, 2), number(end, 12, 4), number(end, 16, 4));
    if count == 0xffff || size == 0xffff_ffff || offset == 0xffff_ffff {
        return Err(Error::format(file, "an archive of more than 4 GiB: save its arrays as .npy files in a folder"));
    }
    if size > MAX_DIRECTORY || offset.checked_add(size).is_none_or(|end| end > length) {
        return Err(damaged());
    }
    let directory = read_at(file, input, offset, size)?;
    let mut rest = &directory[..];
    let mut entries = Vec::new();
    for _ in 0..count {
        let (header, names) = rest.split_at_checked(46).ok_or_else(damaged)?;
        let [name, extra, comment] = [28, 30, 32].map(|at| number(header, at, 2) as usize);
        if !header.starts_with(b"PK\x01\x02") || names.len() < name + extra + comment {
            return Err(damaged());
        }
        let text = String::from_utf8_lossy(&names[..name]).into_owned();
        if number(header, 8, 2) & 1 == 1 {
            return Err(Error::format(file, format!("{text} is encrypted: save it without a password")));
        }
        entries.push(Entry {
            name: text,
            method: number(header, 10, 2) as u16,
            crc: number(header, 16, 4) as u32,
            compressed: number(header, 20, 4),
            header: number(header, 42, 4),
        });
        rest = &names[name + extra + comment..];
    }
    Ok(entries)
}

/// Hands what an entry holds to `read`, which reads it to its end, and checks it.
///
/// # Errors
/// Those of `read`; [`Error::Format`] where the entry is damaged or compressed otherwise; [`Error::Io`].
pub(super) fn read<T>(
    file: &str,
    input: &mut (impl Read + Seek),
    entry: &Entry,
    read: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<T> {
    let error = |problem: &str| Error::format(file, format!("{}: {problem}", entry.name));
    let header = read_at(file, input, entry.header, 30)?;
    if header.len() < 30 || !header.starts_with(b"PK\x03\x04") {
        return Err(error("damaged: save the archive again"));
    }
    let data = entry.header + 30 + number(&header, 26, 2) + number(&header, 28, 2);
    input.seek(SeekFrom::Start(data)).map_err(Error::io("read", file))?;
    let compressed = input.take(entry.compressed);
    let content: Box<dyn Read> = match entry.method {
        0 => Box::new(compressed),
        8 => Box::new(DeflateDecoder::new(compressed)),
        _ => return Err(error("compressed in another way than numpy.savez does: save it with that")),
    };
    let mut content = CrcReader::new(content);
    let taken = read(&mut content).map_err(|cause| match cause {
        Error::Io { source, .. } if is_damage(&source) => error("damaged: save the archive again"),
        cause => cause,
    })?;
    match content.crc().sum() == entry.crc {
        true => Ok(taken),
        false => Err(error("damaged, its checksum is wrong: save the archive again")),
    }
}

fn read_at(file: &str, input: &mut (impl Read + Seek), at: u64, bytes: u64) -> Result<Vec<u8>> {
    input.seek(SeekFrom::Start(at)).map_err(Error::io("read", file))?;
    let mut taken = Vec::new();
    input.take(bytes).read_to_end(&mut taken).map_err(Error::io("read", file))?;
    Ok(taken)
}

/// The little-endian number in these bytes.
fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    bytes[at..at + size].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}
