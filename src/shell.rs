//! Quoting of arguments for a shell.

use std::path::Path;

use softstep::error::is_printable;

/// Quotes a path as an argument of a shell command: never as an option, and without control characters.
pub fn argument(path: &Path) -> String {
    let path = if path.as_os_str().as_encoded_bytes().starts_with(b"-") { &Path::new(".").join(path) } else { path };
    quoted(path)
}

/// Quotes an argument of a shell command, such as an option with its value.
pub fn word(text: &str) -> String {
    quoted(Path::new(text))
}

fn quoted(path: &Path) -> String {
    match path.to_str() {
        Some(text) if text.chars().all(is_printable) => {
            let is_plain = |character: char| {
                character.is_alphanumeric() || "/._-+=:,@%".contains(character) || cfg!(windows) && character == '\\'
            };
            let plain = !text.is_empty() && text.chars().all(is_plain);
            if plain { text.into() } else { format!("'{}'", text.replace('\'', r"'\''")) }
        }
        // As bash, zsh and POSIX of 2024 have it.
        _ => {
            let escaped = |&byte: &u8| match byte {
                b'\'' | b'\\' => format!("\\{}", char::from(byte)),
                b' '..=b'~' => char::from(byte).to_string(),
                byte => format!("\\{byte:03o}"),
            };
            format!("$'{}'", path.as_os_str().as_encoded_bytes().iter().map(escaped).collect::<String>())
        }
    }
}

/// Formats the command that trains the run of a folder again.
pub fn reproduce_command(folder: &Path) -> String {
    format!("softstep reproduce {}", argument(folder))
}
