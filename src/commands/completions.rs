//! `softstep completions`: commands and options, completed by a shell.

use anyhow::Result;
use clap::{Args, Command};
use clap_complete::{Shell, generate};

use crate::terminal::print;

/// Examples, shown by `--help`.
pub const HELP: &str = "\
Examples:
  softstep completions bash > ~/.local/share/bash-completion/completions/softstep
  softstep completions zsh > ~/.zfunc/_softstep               (with fpath+=~/.zfunc before compinit)
  softstep completions fish > ~/.config/fish/completions/softstep.fish
  softstep completions powershell >> $PROFILE";

/// Options of `softstep completions`.
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Prints the completions of `program`.
pub fn run(args: &CompletionsArgs, program: &mut Command) -> Result<()> {
    let mut script = Vec::new();
    generate(args.shell, program, "softstep", &mut script);
    Ok(print(String::from_utf8(script)?.trim_end())?)
}
