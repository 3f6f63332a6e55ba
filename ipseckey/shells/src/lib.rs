//! `--completions SHELL`: each command prints what a shell needs to complete its options. It is for those who make packages
//! and stands in no help; `cargo xtask completions` runs it for all of them.

use clap::{CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};
use std::io;
use std::process::ExitCode;

/// The word that asks for it.
const OPTION: &str = "--completions";

/// What the process is to end with when it was asked for completions and for nothing else; they are printed then. `name` is
/// what the command is called where it is installed.
pub fn print_if_asked<C: CommandFactory>(name: &str) -> Option<ExitCode> {
    let arguments: Vec<_> = std::env::args_os().skip(1).take(3).collect();
    let [option, shell] = arguments.as_slice() else { return None };
    if option != OPTION {
        return None;
    }
    let Ok(shell) = Shell::from_str(&shell.to_string_lossy(), false) else {
        eprintln!("{name}: there are completions for bash, elvish, fish, powershell and zsh");
        return Some(ExitCode::FAILURE);
    };
    let mut text = vec![];
    generate(shell, &mut C::command(), name, &mut text);
    // Whoever reads them may have seen enough.
    let _ = io::Write::write_all(&mut io::stdout(), &text);
    Some(ExitCode::SUCCESS)
}
