//! Manual pages for `strongroom` and each of its commands, and completions, all from the parser itself.
//!
//! The pages of the daemons and of their configuration are written by hand, in packaging/man. Called by `main`.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use strongroom_ctl::args::Args;

/// Writes `DIR/man1/*.1` and `DIR/completions/*`.
pub fn write(directory: &Path) -> io::Result<()> {
    let (man1, completions) = (directory.join("man1"), directory.join("completions"));
    fs::create_dir_all(&man1)?;
    fs::create_dir_all(&completions)?;
    let mut command = Args::command();
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

/// Every command that people are shown, under its page's name; `help` is the pages themselves.
fn walk(command: &Command, name: &str, into: &mut Vec<(String, Command)>) {
    into.push((name.to_owned(), command.clone()));
    for one in command.get_subcommands().filter(|one| !one.is_hide_set() && one.get_name() != "help") {
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
    let man = Man::new(command.clone().name(leaked).bin_name(usage_name).display_name(leaked))
        .title(name.to_uppercase())
        .section("1")
        .date(date)
        .source(concat!("Strongroom ", env!("CARGO_PKG_VERSION")))
        .manual("Strongroom");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.get_subcommands().any(|one| one.get_name() != "help") {
        man.render_subcommands_section(&mut text)?;
    }
    // Breaks around an empty line break nothing, and are complained of.
    let text = String::from_utf8_lossy(&text).replace("\n.br\n\n.br\n", "\n.sp\n");
    Ok(text + EPILOGUE)
}

/// The year 10000, which no date on a page can have.
const END_OF_DATES: u64 = 253_402_300_800;

/// The same for every page, as its exit codes are.
const EPILOGUE: &str = ".SH \"EXIT STATUS\"
0 done, 1 the command itself failed, 64 wrong usage, 69 the daemon cannot be reached, 70 a fault of the program, 75 the
vault is locked, 77 not permitted, 78 the configuration is wrong.
.SH \"SEE ALSO\"
.BR strongroom (1),
.BR keyd.toml (5),
.BR gatewayd.toml (5),
.BR strongroom\\-keyd (8),
.BR strongroom\\-gatewayd (8)
";
