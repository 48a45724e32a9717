//! `softstep man`: a manual page of the program, and one of each command.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Command};
use clap_mangen::Man;
use softstep::Error;

use crate::format::counted;
use crate::run::files::write_named;
use crate::terminal::written;

/// Options of `softstep man`.
#[derive(Args, Debug)]
pub struct ManArgs {
    /// Folder for the pages, such as ~/.local/share/man/man1
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Marker near the start of every page, by which files are recognised that may be replaced.
const MARK: &str = ".TH softstep";

/// Writes the pages of `program`.
pub fn run(args: &ManArgs, program: Command) -> Result<()> {
    fs::create_dir_all(&args.folder).map_err(Error::io("create folder", &args.folder))?;
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let commands: Vec<_> = program.get_subcommands().cloned().collect();
    let count = 1 + commands.len();
    for command in std::iter::once(program).chain(commands) {
        // Of a command, the name with that of the program before it.
        let name = command.get_display_name().unwrap_or(command.get_name()).to_string();
        let mut page = Vec::new();
        Man::new(command).title(&name).render(&mut page)?;
        write_named("FOLDER", &args.folder.join(format!("{name}.1")), MARK, &page)?;
    }
    written(&counted(count, "page"), &args.folder)
}
