//! Archives of arrays.

use std::io::Write as _;

/// An archive as `numpy.savez` writes it, without compression or with.
pub fn npz(entries: &[(&str, Vec<u8>)], deflated: bool) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in entries {
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let mut packed = content.clone();
        if deflated {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(content).unwrap();
            packed = encoder.finish().unwrap();
        }
        let name = format!("{name}.npy");
        let method = if deflated { 8u16 } else { 0 };
        let numbers = [crc.sum(), packed.len() as u32, content.len() as u32].map(u32::to_le_bytes).concat();
        let header =
            [&[20, 0, 0, 0][..], &method.to_le_bytes(), &[0; 4], &numbers, &(name.len() as u16).to_le_bytes()].concat();
        directory.extend(
            [&b"PK\x01\x02\x14\0"[..], &header, &[0; 12], &(file.len() as u32).to_le_bytes(), name.as_bytes()].concat(),
        );
        file.extend([&b"PK\x03\x04"[..], &header, &[0; 2], name.as_bytes(), &packed].concat());
    }
    let (at, count) = ((file.len() as u32).to_le_bytes(), (entries.len() as u16).to_le_bytes());
    let end =
        [&b"PK\x05\x06\0\0\0\0"[..], &count, &count, &(directory.len() as u32).to_le_bytes(), &at, &[0; 2]].concat();
    [file, directory, end].concat()
}
