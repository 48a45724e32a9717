//! The words of a page for the settings and commands that messages of the library name.

/// Names in messages that a page calls otherwise than by their own words.
const NAMES: [(&str, &str); 8] = [
    ("Device::cpu()", "the CPU"),
    ("Device::gpu_or_software()", "the GPU"),
    ("softstep doctor", "the self-test of this page"),
    ("used", "columns to use"),
    ("ignore", "columns to leave out"),
    ("categorical", "columns of categories"),
    ("test", "test part"),
    ("no_header", "no header"),
];

/// Replaces each setting that a message of the library names, in backticks, by the words of the page.
pub(crate) fn of_page(text: &str) -> String {
    let mut parts = text.split('\u{60}');
    let mut page = parts.next().unwrap_or_default().to_owned();
    let rest: Vec<&str> = parts.collect();
    for pair in rest.chunks(2) {
        let [name, after] = pair else {
            page.push('\u{60}'); // one alone is a character
            page.extend(pair.iter().copied());
            break;
        };
        let known = NAMES.iter().find(|(known, _)| known == name);
        page.push_str(&known.map_or_else(|| name.replace('_', " "), |(_, words)| (*words).to_owned()));
        page.push_str(after);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_words() {
        let text = "`learning_rate` 0: must be above 0; or use `Device::cpu()`, a smaller `batch_size` or smaller `hidden` layers";
        let words = "learning rate 0: must be above 0; or use the CPU, a smaller batch size or smaller hidden layers";
        assert_eq!(of_page(text), words);
        assert_eq!(of_page("a \u{60} alone, learning_rate"), "a \u{60} alone, learning_rate");
    }
}
