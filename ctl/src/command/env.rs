//! `env`: prints an agent's environment, for a shell, a .env file or a program to read.

use super::Context;
use crate::args::{Env, Format, Mode};
use crate::environment::bundle::{self, Bundle};
use crate::environment::variables::{self, Way};
use crate::environment::{format, source};
use crate::error::Outcome;
use crate::{catalogue, output};

pub fn run(context: &Context, asked: &Env) -> Outcome<()> {
    let format = asked.format()?;
    let environment = source::environment(&context.home, &asked.agent)?;
    let catalogue = catalogue::all()?;
    let file = match asked.mode {
        Mode::BaseUrl => None,
        Mode::Proxy => {
            let bundle = Bundle::new(&environment.ca);
            let placed = bundle.put_into_home(&context.home);
            Some(placed.map_or_else(|| bundle.put_into_cache(bundle::cache()), Ok)?)
        }
    };
    let variables = variables::make(&environment, file.as_deref().map_or(Way::BaseUrl, Way::Proxy), &catalogue)?;
    variables.notes.iter().for_each(|note| output::note(note));
    match format {
        Format::Shell => output::line(&format::shell(&variables.set)),
        Format::Dotenv => output::line(&format::dotenv(&variables.set)),
        Format::Json => output::json(&format::json(&variables.set)),
    }
}
