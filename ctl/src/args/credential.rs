//! `strongroom credential ...`: named secrets and where they may go.
//!
//! It refuses values as arguments. Read by `command/credential.rs`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use strongroom_protocol::{HostPattern, Name, Site};

use super::{Json, host};
use crate::discreet::{NameParser, SiteParser};
use crate::{catalogue, pin};

/// `strongroom credential`
#[derive(Debug, Subcommand)]
pub enum Credential {
    /// Add a credential; its value comes from standard input or a prompt
    Add(Box<CredentialAdd>),
    /// List credentials
    List(Json),
    /// Show one credential, without its value
    Show {
        /// Its name
        #[arg(value_parser = NameParser)]
        name: Name,
        /// How to print it
        #[command(flatten)]
        json: Json,
    },
    /// Give a credential a new value; agents notice nothing
    Rotate {
        /// Its name
        #[arg(value_parser = NameParser)]
        name: Name,
        /// Take a value that is too short or too guessable to be masked in answers
        #[arg(long)]
        allow_weak: bool,
    },
    /// Remove a credential and revoke its grants
    Remove {
        /// Its name
        #[arg(value_parser = NameParser)]
        name: Name,
        /// Erase its value too; this cannot be undone
        #[arg(long)]
        purge: bool,
    },
}

/// `strongroom credential add`
#[derive(Debug, ClapArgs)]
pub struct CredentialAdd {
    /// Its name
    #[arg(value_parser = NameParser)]
    pub name: Name,
    // What `--provider` takes is the catalogue's to say.
    #[arg(long, help = provider())]
    #[allow(missing_docs, reason = "its help is its documentation")]
    pub provider: Option<String>,
    /// Where the key may go: HOST or HOST:PORT; '*.' in front stands for one label
    #[arg(long = "host", value_name = "HOST", value_parser = host)]
    pub hosts: Vec<HostPattern>,
    /// The key goes into 'Authorization: Bearer'
    #[arg(long)]
    pub bearer: bool,
    /// The key goes into this header, in place of '{}'
    #[arg(long = "header", value_name = "'NAME: {}'", value_parser = SiteParser("header", Site::parse_header))]
    pub headers: Vec<Site>,
    /// The key is the password of 'Authorization: Basic', with this user name
    #[arg(long, value_name = "USER", value_parser = SiteParser("basic", Site::parse_basic))]
    pub basic: Vec<Site>,
    /// The key is the value of this query parameter
    #[arg(long, value_name = "NAME", value_parser = SiteParser("query", Site::parse_query))]
    pub query: Vec<Site>,
    /// The path begins like this, with the key in place of '{}'
    #[arg(long, value_name = "'/bot{}'", value_parser = SiteParser("path-prefix", Site::parse_path_prefix))]
    pub path_prefix: Vec<Site>,
    /// The key is a string in the JSON body of such a request, at this pointer
    #[arg(long, value_name = "'POST /path#/pointer'", value_parser = SiteParser("body-json", Site::parse_body_json))]
    pub body_json: Vec<Site>,
    /// The key is a field of the form in the body of such a request
    #[arg(long, value_name = "'POST /path#field'", value_parser = SiteParser("body-form", Site::parse_body_form))]
    pub body_form: Vec<Site>,
    /// First path segment under which agents reach it [default: the provider's, else NAME]
    #[arg(long)]
    pub route: Option<Name>,
    /// Trust these certificates (PEM) for this credential, in place of the platform's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Trust only chains in which this public key stands: 'sha256//BASE64' of its SubjectPublicKeyInfo, or hex; may be
    /// given again
    #[arg(long = "pin", value_name = "SPKI", value_parser = pin::parse)]
    pub pins: Vec<pin::Pin>,
    /// Speak HTTP/2 with the upstream
    #[arg(long)]
    pub http2: bool,
    /// Take a value that is too short or too guessable to be masked in answers
    #[arg(long)]
    pub allow_weak: bool,
    /// Pass the upstream's cookies on to agents
    #[arg(long)]
    pub keep_cookies: bool,
    /// Let agents ask for parts of an answer
    #[arg(long)]
    pub allow_range: bool,
}

fn provider() -> String {
    let names = catalogue::names();
    format!(
        "Take hosts, positions and route from the catalogue ({names}): --host and --route replace its own, positions are added"
    )
}
