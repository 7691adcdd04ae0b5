//! `credential ...`: what is named, where it may go, and its value on the way in.

use serde_json::{Value, json};
use strongroom_protocol::admin::{CredentialView, NewCredential, Operation, Reply};
use strongroom_protocol::environment::variable_of;
use strongroom_protocol::{Name, Site};

use super::{Context, only};
use crate::admin_client::{AdminClient, unexpected};
use crate::args::{Credential, CredentialAdd};
use crate::environment::variables::can_hold_a_key;
use crate::error::{CtlError, FAILED, Outcome};
use crate::pin::Pin;
use crate::{catalogue, certificates, output, public_suffix, secret_input};

pub fn run(context: &Context, command: Credential) -> Outcome<()> {
    match command {
        Credential::Add(add) => self::add(context, *add),
        Credential::List(json) => list(context, json.json),
        Credential::Show { name, json } => show(context, name, json.json),
        Credential::Rotate { name, allow_weak } => {
            secret_input::is_for_a_value();
            let mut client = context.connect()?;
            let proof = context.proof(&mut client)?;
            let value = secret_input::value()?;
            let asked = Operation::CredentialRotate { name: name.clone(), value, allow_weak };
            if matches!(client.ask_with(proof, asked)?, Reply::Unchanged) {
                output::note(&format!("The credential {name} has this value already. Nothing was changed."));
            }
            warn_of_weak(allow_weak);
            Ok(())
        }
        Credential::Remove { name, purge } => remove(context, name, purge),
    }
}

fn add(context: &Context, add: CredentialAdd) -> Outcome<()> {
    // Everything that can be wrong in the command line is said before anything is asked for.
    let mut new = described(&add)?;
    secret_input::is_for_a_value();
    let mut client = context.connect()?;
    let proof = context.proof(&mut client)?;
    new.value = secret_input::value()?;
    client.ask_with(proof, Operation::CredentialAdd(new))?;
    warn_of_weak(add.allow_weak);
    Ok(())
}

/// Said too where the key turns out to be a good one: keyd does not tell.
fn warn_of_weak(is_allowed: bool) {
    if is_allowed {
        output::note("A key that is too short or too guessable is not masked in answers.");
    }
}

fn described(add: &CredentialAdd) -> Outcome<NewCredential> {
    let provider = add.provider.as_deref().map(catalogue::find).transpose()?;
    let mut hosts = add.hosts.clone();
    let mut sites: Vec<Site> = add.bearer.then_some(Site::Bearer).into_iter().collect();
    for more in [&add.headers, &add.basic, &add.query, &add.path_prefix, &add.body_json, &add.body_form] {
        sites.extend_from_slice(more);
    }
    if let Some(provider) = &provider {
        // Hosts that are named stand in place of the catalogue's: a proxy or a test in front of the provider.
        if hosts.is_empty() {
            hosts.clone_from(&provider.hosts);
        }
        sites.extend(provider.sites.iter().filter(|site| !sites.contains(site)).cloned().collect::<Vec<_>>());
    }
    if hosts.is_empty() {
        return Err(CtlError::usage("where the key may go is missing. Name it with --host or --provider."));
    }
    if sites.is_empty() {
        return Err(CtlError::usage(
            "the position of the key is missing. Name it with --bearer, --header, --basic, --query, --path-prefix, --body-json, --body-form or --provider.",
        ));
    }
    // 'env' and 'run' would refuse it, with every other grant of the agent.
    let own = variable_of(&add.name);
    if provider.as_ref().is_none_or(|provider| provider.variables.is_empty()) && !can_hold_a_key(&own) {
        return Err(CtlError::usage(format!(
            "the key of {} would be in the variable {own}, which programs need for something else. Choose another name.",
            add.name
        )));
    }
    hosts.iter().try_for_each(public_suffix::check)?;
    let has_exact = hosts.iter().any(|host| host.exact().is_some());
    let usual = provider.as_ref().map_or(&add.name, |provider| &provider.id);
    let route = add.route.clone().or_else(|| has_exact.then(|| usual.clone()));
    Ok(NewCredential {
        name: add.name.clone(),
        hosts,
        sites,
        route,
        roots: add.ca.as_deref().map(certificates::read).transpose()?.unwrap_or_default(),
        variables: provider.as_ref().map(|provider| provider.variables.clone()).unwrap_or_default(),
        key_prefix: provider.as_ref().map(|provider| provider.key_prefix.clone()).unwrap_or_default(),
        deny: provider.as_ref().map(|provider| provider.deny.clone()).unwrap_or_default(),
        provider: provider.map(|provider| provider.id),
        keep_cookies: add.keep_cookies,
        allow_range: add.allow_range,
        value: strongroom_protocol::SecretBytes::new(Vec::new()),
        allow_weak: add.allow_weak,
        http2: add.http2,
        pins: add.pins.iter().map(|pin| pin.0).collect(),
    })
}

fn list(context: &Context, as_json: bool) -> Outcome<()> {
    let credentials = all(&mut context.connect()?)?;
    if as_json {
        return output::json(&credentials.iter().map(to_json).collect());
    }
    let rows = credentials.iter().map(|one| {
        let hosts: Vec<String> = one.hosts.iter().map(ToString::to_string).collect();
        vec![
            one.name.to_string(),
            hosts.join(","),
            one.route.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            format!("v{} of {}", one.version, output::time(one.rotated)),
            one.grants.to_string(),
            (if one.scrubbed { "masked" } else { "NOT MASKED" }).to_owned(),
        ]
    });
    output::table(&["name", "hosts", "route", "version", "grants", "in answers"], rows.collect())
}

fn show(context: &Context, name: Name, as_json: bool) -> Outcome<()> {
    let Reply::Credentials { items, .. } = context.connect()?.ask(Operation::CredentialShow { name })? else {
        return Err(unexpected());
    };
    let credential = to_json(&only(items)?);
    if as_json { output::json(&credential) } else { output::fields(credential) }
}

fn remove(context: &Context, name: Name, purge: bool) -> Outcome<()> {
    let mut client = context.connect()?;
    let shown = Operation::CredentialShow { name: name.clone() };
    if purge {
        match client.ask(shown) {
            // The values of one that was removed can be erased still, and keyd shows only those that are there.
            Err(error) if error.code() == FAILED => {
                if !context.can_confirm() {
                    return Err(CtlError::failed(format!(
                        "{error} To erase the values of one that was removed, say --yes."
                    )));
                }
                context
                    .confirm(&format!("There is no credential {name}. Erase the values of one that was removed?"))?;
            }
            Err(error) => return Err(error),
            Ok(_) => context.confirm(&format!("Erase the credential {name} and its values for good?"))?,
        }
        return context.widen(&mut client, Operation::CredentialRemove { name, purge }).map(drop);
    }
    let question = format!("Remove the credential {name} and revoke its grants?");
    context.confirm_taking(&mut client, shown, &question)?;
    client.ask(Operation::CredentialRemove { name, purge }).map(drop)
}

/// Every credential, page by page.
pub fn all(client: &mut AdminClient) -> Outcome<Vec<CredentialView>> {
    let mut all: Vec<CredentialView> = Vec::new();
    loop {
        let after = all.last().map(|last| last.name.clone());
        let Reply::Credentials { items, more } = client.ask(Operation::CredentialList { after })? else {
            return Err(unexpected());
        };
        let progress = !items.is_empty();
        all.extend(items);
        if !more || !progress {
            return Ok(all);
        }
    }
}

fn to_json(one: &CredentialView) -> Value {
    json!({
        "name": one.name,
        "provider": one.provider,
        "hosts": one.hosts.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "sites": one.sites.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "route": one.route,
        "own_roots": one.roots,
        "pins": one.pins.iter().map(|pin| Pin(*pin).to_string()).collect::<Vec<_>>(),
        "http2": one.http2,
        "keep_cookies": one.keep_cookies,
        "allow_range": one.allow_range,
        "variables": one.variables,
        "deny": one.deny.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "version": one.version,
        "rotated": output::time(one.rotated),
        "created": output::time(one.created),
        "scrubbed": one.scrubbed,
        "grants": one.grants,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Command};

    fn from(line: &[&str]) -> Outcome<NewCredential> {
        let line = ["strongroom", "credential", "add"].iter().chain(line);
        let Command::Credential(Credential::Add(add)) = Args::try_parse_from(line).unwrap().command else {
            panic!("another command")
        };
        described(&add)
    }

    #[test]
    fn a_provider_fills_in_what_is_not_said() {
        let new = from(&["mine", "--provider", "openai"]).unwrap();
        assert_eq!(new.hosts, ["api.openai.com".parse().unwrap()]);
        assert_eq!((new.sites, new.route), (vec![Site::Bearer], Some("openai".parse().unwrap())));
        assert!(!new.deny.is_empty() && new.variables == ["OPENAI_API_KEY"] && new.key_prefix == "sk-");
        let elsewhere = from(&["mine", "--provider", "openai", "--host", "llm.example:8443", "--route", "r"]).unwrap();
        assert_eq!(
            (elsewhere.hosts, elsewhere.route),
            (vec!["llm.example:8443".parse().unwrap()], Some("r".parse().unwrap()))
        );
    }

    #[test]
    fn every_position_pins_and_http2_are_passed_on() {
        let pin = "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let new = from(&[
            "x",
            "--host",
            "a.example",
            "--body-form",
            "POST /t#f",
            "--body-json",
            "POST /t#/j",
            "--path-prefix",
            "/bot{}",
            "--query",
            "key",
            "--query",
            "k2",
            "--basic",
            "u",
            "--header",
            "x: {}",
            "--bearer",
            "--pin",
            pin,
            "--http2",
        ])
        .unwrap();
        let sites: Vec<String> = new.sites.iter().map(ToString::to_string).collect();
        assert_eq!(
            sites,
            [
                "authorization: Bearer {}",
                "x: {}",
                "basic u",
                "query key",
                "query k2",
                "path-prefix /bot{}",
                "body-json POST /t#/j",
                "body-form POST /t#f",
            ]
        );
        assert_eq!((new.pins, new.http2), (vec![[0; 32]], true));
        let usual = from(&["x", "--host", "a.example", "--bearer"]).unwrap();
        assert_eq!((usual.pins, usual.http2), (vec![], false));
    }

    #[test]
    fn without_a_provider_the_route_is_the_name() {
        assert_eq!(from(&["mine", "--host", "a.example", "--bearer"]).unwrap().route, Some("mine".parse().unwrap()));
        assert_eq!(from(&["mine", "--host", "*.a.example", "--bearer"]).unwrap().route, None);
    }

    #[test]
    fn a_name_whose_variable_programs_need_is_refused_where_the_key_would_be_in_it() {
        for name in ["path", "https-proxy", "ssl-cert-file", "ld-preload", "git-ssh-command", "ps1", "OPENAI-BASE-URL"]
        {
            assert_eq!(from(&[name, "--host", "a.example", "--bearer"]).unwrap_err().code(), 64, "{name}");
            assert!(from(&[name, "--provider", "openai"]).is_ok(), "{name}");
        }
        for name in ["path-key", "my-home", "x"] {
            assert!(from(&[name, "--host", "a.example", "--bearer"]).is_ok(), "{name}");
        }
    }

    #[test]
    fn what_is_missing_or_too_wide_is_said() {
        for line in
            [&["x"][..], &["x", "--bearer"], &["x", "--host", "a.example"], &["x", "--host", "*.co.uk", "--bearer"]]
        {
            assert_eq!(from(line).unwrap_err().code(), 64, "{line:?}");
        }
        // The last two are none themselves: each label before them is one.
        for host in ["*.github.io", "*.公司.cn", "*.s3.amazonaws.com", "*.kawasaki.jp", "*.compute-1.amazonaws.com"] {
            assert_eq!(from(&["x", "--host", host, "--bearer"]).unwrap_err().code(), 64, "{host}");
        }
        for host in ["*.example.co.uk", "*.mine.github.io", "*.例.公司.cn"] {
            assert!(from(&["x", "--host", host, "--bearer"]).is_ok(), "{host}");
        }
        assert_eq!(from(&["x", "--provider", "nobody"]).unwrap_err().code(), 1);
        assert_eq!(from(&["x", "--host", "a.example", "--bearer", "--ca", "/no/such/file"]).unwrap_err().code(), 1);
        assert_eq!(from(&["x", "--host", "a.example", "--bearer", "--ca", "/dev/null"]).unwrap_err().code(), 1);
    }
}
