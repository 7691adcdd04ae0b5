//! Manual pages for `strongroom` and each of its commands, and completions, all from the parser itself.
//!
//! The pages of the daemons and of their configuration are written by hand, in packaging/man. Called by `main`.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Arg, ArgAction, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use strongroom_ctl::args::Args;

/// Writes `DIR/man1/*.1` and `DIR/completions/*`.
pub fn write(directory: &Path) -> io::Result<()> {
    let (man1, completions) = (directory.join("man1"), directory.join("completions"));
    fs::create_dir_all(&man1)?;
    fs::create_dir_all(&completions)?;
    let mut command = without_help(Args::command());
    command.build();
    let mut below = Vec::new();
    let date = date()?;
    walk(&command, "strongroom", &mut below);
    for (name, command) in &below {
        fs::write(man1.join(format!("{name}.1")), page(name, command, &date)?)?;
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        // Names the file as the shell wants it.
        clap_complete::generate_to(shell, &mut Args::command(), "strongroom", &completions)?;
    }
    Ok(())
}

/// `help` is the pages themselves, and has none.
fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

/// Every command that people are shown, under its page's name.
fn walk(command: &Command, name: &str, into: &mut Vec<(String, Command)>) {
    into.push((name.to_owned(), command.clone()));
    for one in command.get_subcommands().filter(|one| !one.is_hide_set()) {
        walk(one, &format!("{name}-{}", one.get_name()), into);
    }
}

/// SOURCE_DATE_EPOCH, as reproducible builds say it, or today.
fn date() -> io::Result<String> {
    let time = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) => {
            let seconds = seconds.parse().map_err(|_| io::Error::other("SOURCE_DATE_EPOCH is no number of seconds"))?;
            UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).filter(|_| seconds < END_OF_DATES)
        }
        Err(_) => Some(SystemTime::now()),
    };
    let time = time.ok_or_else(|| io::Error::other("SOURCE_DATE_EPOCH is out of range"))?;
    Ok(humantime::format_rfc3339_seconds(time).to_string().chars().take("2000-01-01".len()).collect())
}

fn page(name: &str, command: &Command, date: &str) -> io::Result<String> {
    // clap hands out names that live as long as the program.
    let leaked: &'static str = Box::leak(name.to_owned().into_boxed_str());
    let usage_name = name.replace('-', " ");
    let man = Man::new(command.clone().name(leaked).bin_name(usage_name.clone()).display_name(leaked))
        .title(name.to_uppercase())
        .section("1")
        .date(date)
        .source(concat!("Strongroom ", env!("CARGO_PKG_VERSION")))
        .manual("Strongroom");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    writeln!(text, ".SH SYNOPSIS\n{}", synopsis(&usage_name, command))?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    // Breaks around an empty line break nothing, and are complained of.
    let text = String::from_utf8_lossy(&text).replace("\n.br\n\n.br\n", "\n.sp\n");
    let exit = if name == "strongroom-run" { RUN_EXIT } else { EXIT };
    Ok(text + ENVIRONMENT + ".SH \"EXIT STATUS\"\n" + exit + CODES + SEE_ALSO)
}

/// The line to type, each option with its value: clap_mangen's has the options alone.
fn synopsis(name: &str, command: &Command) -> String {
    let mut words = vec![format!("\\fB{}\\fR", escaped(name))];
    let is_own = |arg: &&Arg| {
        !matches!(arg.get_action(), ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version)
    };
    let (positional, options): (Vec<&Arg>, Vec<&Arg>) =
        command.get_arguments().filter(|arg| !arg.is_hide_set()).filter(is_own).partition(|arg| arg.is_positional());
    // Those that every command has come last.
    let (global, own): (Vec<&Arg>, Vec<&Arg>) = options.into_iter().partition(|arg| arg.is_global_set());
    words.extend(own.into_iter().chain(global).map(one_option));
    if command.has_subcommands() {
        let (open, close) = if command.is_subcommand_required_set() { ("", "") } else { ("[", "]") };
        words.push(format!("{open}\\fICOMMAND\\fR{close} ..."));
    }
    for arg in positional {
        let (value, more) = (values(arg), if takes_many(arg) { " ..." } else { "" });
        let dashes = if arg.is_trailing_var_arg_set() { "[\\fB\\-\\-\\fR] " } else { "" };
        words.push(if arg.is_required_set() { format!("{dashes}{value}{more}") } else { format!("[{value}{more}]") });
    }
    words.join(" ")
}

fn one_option(arg: &Arg) -> String {
    let mut text = format!("\\fB\\-\\-{}\\fR", escaped(arg.get_long().unwrap_or_default()));
    if arg.get_action().takes_values() {
        text = format!("{text} {}", values(arg));
    }
    let more = if takes_many(arg) { " ..." } else { "" };
    if arg.is_required_set() { text + more } else { format!("[{text}]{more}") }
}

fn values(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    names.iter().map(|name| format!("\\fI{}\\fR", escaped(name))).collect::<Vec<_>>().join(" ")
}

fn takes_many(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// As roff takes it for itself.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq")
}

/// The year 10000, which no date on a page can have.
const END_OF_DATES: u64 = 253_402_300_800;

/// The same for every page.
const ENVIRONMENT: &str = ".SH ENVIRONMENT
.TP
.B STRONGROOM_HOME
A directory for everything: configuration, vault, sockets and logs, in place of the usual ones.
.TP
.B STRONGROOM_PASSPHRASE_FILE
A file that answers the passphrase prompt, as \\fB\\-\\-passphrase\\-file\\fR does.
";

/// Behind it come the codes.
const RUN_EXIT: &str = "The program\\(aqs own code; 126 where it cannot be run, 127 where there is none; else:
";
const EXIT: &str = "";

const CODES: &str = "0 done, 1 the command itself failed, 64 wrong usage, 69 the daemon cannot be reached, 70 a fault of the program, 75 the
vault is locked, 77 not permitted, 78 the configuration is wrong.
";

const SEE_ALSO: &str = ".SH \"SEE ALSO\"
.BR strongroom (1),
.BR keyd.toml (5),
.BR gatewayd.toml (5),
.BR strongroom\\-keyd (8),
.BR strongroom\\-gatewayd (8)
";
