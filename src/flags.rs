//! The flags of the command line in the messages of the library, which names settings.

/// Settings whose flag is not their name with dashes, as messages of the library name them.
const FLAGS: [(&str, &str); 4] = [
    ("learning_rate", "--lr"),
    ("used", "--use"),
    ("Device::cpu()", "--backend cpu"),
    ("Device::gpu_or_software()", "--backend gpu"),
];

/// Settings whose flag is their name with dashes, as messages of the library name them.
const SETTINGS: [&str; 35] = [
    "adapter",
    "all",
    "augment",
    "batch_size",
    "beta1",
    "beta2",
    "categorical",
    "class_weights",
    "clip_norm",
    "data",
    "data_dir",
    "epochs",
    "epsilon",
    "fit",
    "hidden",
    "ignore",
    "image_size",
    "keep",
    "label_smoothing",
    "layers",
    "loss",
    "missing",
    "momentum",
    "nesterov",
    "no_header",
    "patience",
    "profile",
    "shards",
    "strict",
    "target",
    "task",
    "test",
    "validation",
    "warmup",
    "weight_decay",
];

/// Replaces each setting that a message of the library names, in backticks, by its flag.
pub fn with_flags(text: &str) -> String {
    if !text.contains('`') {
        return text.to_owned();
    }
    let dashed = SETTINGS.into_iter().map(|name| (name, format!("--{}", name.replace('_', "-"))));
    let all = FLAGS.into_iter().map(|(name, flag)| (name, flag.to_owned())).chain(dashed);
    all.fold(text.to_owned(), |text, (name, flag)| text.replace(&format!("`{name}`"), &flag))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn settings_become_flags_and_other_text_stays() {
        let text =
            "`learning_rate` 0: must be above 0; or use `Device::cpu()`, `softstep doctor` or a `batch_size` file";
        let expected = "--lr 0: must be above 0; or use --backend cpu, `softstep doctor` or a --batch-size file";
        assert_eq!(with_flags(text), expected);
        assert_eq!(with_flags("a ` alone, learning_rate"), "a ` alone, learning_rate");
    }

    #[test]
    fn every_setting_has_a_flag_of_the_command_line() {
        let cli = crate::cli::Cli::command();
        let flags: Vec<&str> = cli
            .get_subcommands()
            .flat_map(|command| command.get_arguments())
            .filter_map(|argument| argument.get_long())
            .collect();
        for setting in FLAGS.map(|(name, _)| name).into_iter().chain(SETTINGS) {
            let flag = with_flags(&format!("`{setting}`"));
            let long = flag.trim_start_matches("--").split(' ').next().unwrap_or_default();
            assert!(flag.starts_with("--") && flags.contains(&long), "{setting}: {flag}");
        }
    }

    /// The sources of the library: those that its root leads to.
    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            // The builder of the site is a program of its own.
            if path.is_dir() && !path.ends_with("web/site") {
                sources(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }

    /// Modules of a source file, without those of its tests.
    fn modules(source: &str) -> Vec<&str> {
        let names = source.lines().filter_map(|line| {
            let line = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
            line.strip_prefix("mod ")?.strip_suffix(';')
        });
        names.collect()
    }

    #[test]
    fn the_library_names_settings_and_no_flags() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = vec![root.join("lib.rs")];
        for module in modules(include_str!("lib.rs")) {
            files.push(root.join(format!("{module}.rs")));
            if root.join(module).is_dir() {
                sources(&root.join(module), &mut files);
            }
        }
        assert!(files.len() > 80, "{files:?}");
        let is_flag = |text: &str| {
            let mut rest = text;
            while let Some(at) = rest.find("--") {
                let before = rest[..at].chars().next_back().unwrap_or(' ');
                rest = &rest[at + 2..];
                if !before.is_alphanumeric()
                    && before != '-'
                    && rest.starts_with(|next: char| next.is_ascii_lowercase())
                {
                    return true;
                }
            }
            false
        };
        for file in files {
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            for (at, line) in text.lines().enumerate() {
                let line = line.split(" // ").next().unwrap_or_default();
                let place = || format!("{}:{}: {line}", file.display(), at + 1);
                assert!(!is_flag(line), "names a flag: {}", place());
                // Names in backticks within a message are settings, or commands of the program.
                let code = !line.trim_start().starts_with("//") && !line.contains("#[doc =");
                for name in line.split('`').skip(1).step_by(2).filter(|_| code) {
                    assert!(
                        name.starts_with("softstep ") || with_flags(&format!("`{name}`")) != format!("`{name}`"),
                        "{}",
                        place()
                    );
                }
            }
        }
    }
}
