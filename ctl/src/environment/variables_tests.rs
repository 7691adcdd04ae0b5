//! Tests of the variables that an agent's environment is made of.

use std::os::unix::ffi::OsStrExt;

use super::*;
use crate::catalogue;

fn grant(credential: &str, provider: Option<&str>, variables: &[&str], placeholder: &str) -> EnvironmentGrant {
    EnvironmentGrant {
        number: 1,
        credential: credential.parse().unwrap(),
        provider: provider.map(|provider| provider.parse().unwrap()),
        route: Some(provider.unwrap_or(credential).parse().unwrap()),
        variables: variables.iter().map(ToString::to_string).collect(),
        placeholder: placeholder.to_owned(),
        named: false,
    }
}

fn of(grants: Vec<EnvironmentGrant>, token: Option<&str>) -> Environment {
    Environment {
        agent: "coder".parse().unwrap(),
        token: token.map(str::to_owned),
        ca: Vec::new(),
        gateway: "127.0.0.1:7777".parse().unwrap(),
        grants,
        as_admin: true,
    }
}

fn openai() -> EnvironmentGrant {
    grant("mine", Some("openai"), &["OPENAI_API_KEY"], "sk-strongroom-x")
}

fn by_proxy(environment: &Environment) -> Outcome<Variables> {
    make(environment, Way::Proxy(Path::new("/run/ca.pem")), &catalogue::all().unwrap())
}

fn by_base_url(environment: &Environment) -> Variables {
    make(environment, Way::BaseUrl, &catalogue::all().unwrap()).unwrap()
}

fn value<'a>(variables: &'a Variables, name: &str) -> Option<&'a str> {
    variables.set.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

#[test]
fn by_proxy_everything_leads_there_and_trusts_the_bundle() {
    let variables = by_proxy(&of(vec![openai()], None)).unwrap();
    assert_eq!(value(&variables, "OPENAI_API_KEY"), Some("sk-strongroom-x"));
    for name in PROXY {
        assert_eq!(value(&variables, name), Some("http://127.0.0.1:7777"), "{name}");
    }
    for name in CERTIFICATES {
        assert_eq!(value(&variables, name), Some("/run/ca.pem"), "{name}");
    }
    assert_eq!(value(&variables, "no_proxy"), Some("localhost,127.0.0.1,::1"));
    assert_eq!((value(&variables, "NODE_USE_ENV_PROXY"), value(&variables, "OPENAI_BASE_URL")), (Some("1"), None));
    assert!(variables.notes.is_empty());
}

#[test]
fn a_token_goes_with_the_proxy_and_into_base_urls_but_into_no_note() {
    let unknown = grant("tickets", None, &[], "strongroom-y");
    let environment = of(vec![openai(), unknown], Some("strongroom-agent-t"));
    let proxy = by_proxy(&environment).unwrap();
    assert_eq!(value(&proxy, "HTTPS_PROXY"), Some("http://coder:strongroom-agent-t@127.0.0.1:7777"));
    let direct = by_base_url(&environment);
    assert_eq!(value(&direct, "OPENAI_BASE_URL"), Some("http://127.0.0.1:7777/@strongroom-agent-t/openai/v1"));
    assert!(direct.notes[0].contains("/@TOKEN/tickets") && !direct.notes[0].contains("agent-t"), "{direct:?}");
}

#[test]
fn git_is_told_to_send_a_token_without_being_asked() {
    let authentication = |token| {
        let variables = by_proxy(&of(vec![openai()], token)).unwrap();
        value(&variables, "GIT_HTTP_PROXY_AUTHMETHOD").map(str::to_owned)
    };
    assert_eq!(authentication(Some("strongroom-agent-t")).as_deref(), Some("basic"));
    assert_eq!(authentication(None), None, "there is nothing to send");
    assert_eq!(value(&by_base_url(&of(vec![openai()], Some("t"))), "GIT_HTTP_PROXY_AUTHMETHOD"), None);
    let inherited = [("GIT_HTTP_PROXY_AUTHMETHOD", "ntlm")];
    assert!(!child(Way::Proxy(Path::new("/run/ca.pem")), &inherited).contains_key("GIT_HTTP_PROXY_AUTHMETHOD"));
    assert_eq!(child(Way::BaseUrl, &inherited)["GIT_HTTP_PROXY_AUTHMETHOD"], "ntlm", "another proxy stays");
}

#[test]
fn by_base_url_nothing_else_is_set() {
    let claude = grant("claude", Some("anthropic"), &["ANTHROPIC_API_KEY"], "sk-ant-strongroom-z");
    let variables = by_base_url(&of(vec![openai(), claude], None));
    let names: Vec<&str> = variables.set.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "OPENAI_API_KEY",
            "OPENAI_API_BASE",
            "OPENAI_BASE_URL",
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_API_BASE",
            "ANTHROPIC_BASE_URL"
        ]
    );
    assert_eq!(value(&variables, "ANTHROPIC_BASE_URL"), Some("http://127.0.0.1:7777/anthropic"));
}

#[test]
fn what_no_base_url_leads_to_is_said() {
    let hub = grant("hub", Some("github"), &["GITHUB_TOKEN"], "github_pat_strongroom-x");
    let wild = EnvironmentGrant { route: None, ..grant("wild", None, &[], "strongroom-w") };
    let variables = by_base_url(&of(vec![hub, wild], None));
    assert_eq!(variables.notes.len(), 2);
    assert!(variables.notes[0].contains("http://127.0.0.1:7777/github"), "{variables:?}");
    assert!(variables.notes[1].contains("wild") && variables.notes[1].contains("--mode proxy"), "{variables:?}");
    assert_eq!(value(&variables, "GITHUB_TOKEN"), Some("github_pat_strongroom-x"));
}

#[test]
fn without_variables_of_its_own_a_credential_gives_its_name() {
    let variables = by_proxy(&of(vec![grant("my-tickets", None, &[], "strongroom-y")], None)).unwrap();
    assert_eq!(value(&variables, "MY_TICKETS"), Some("strongroom-y"));
}

#[test]
fn two_grants_for_one_variable_are_both_named() {
    let other = grant("theirs", Some("openai"), &["OPENAI_API_KEY"], "sk-strongroom-y");
    let error = by_proxy(&of(vec![openai(), other], None)).unwrap_err();
    let words = error.to_string();
    assert_eq!(error.code(), 1);
    assert!(["mine", "theirs", "OPENAI_API_KEY"].iter().all(|part| words.contains(part)), "{words}");
    assert!(by_proxy(&of(vec![grant("x", None, &["A", "B"], "p"), grant("b", None, &[], "q")], None)).is_err());
}

#[test]
fn named_placeholders_without_a_token_come_with_a_note() {
    let named = EnvironmentGrant { named: true, ..grant("mine", None, &["OPENAI_API_KEY"], "OPENAI_API_KEY") };
    assert!(by_proxy(&of(vec![named.clone()], None)).unwrap().notes[0].contains("agent.sock"));
    let variables = by_proxy(&of(vec![named], Some("t"))).unwrap();
    assert_eq!((value(&variables, "OPENAI_API_KEY"), variables.notes.len()), (Some("OPENAI_API_KEY"), 0));
}

#[test]
fn each_variable_of_a_named_placeholder_holds_its_own_name() {
    let both = ["GITHUB_TOKEN", "GH_TOKEN"];
    let named = EnvironmentGrant { named: true, ..grant("mine", None, &both, "GITHUB_TOKEN") };
    let variables = by_proxy(&of(vec![named], Some("t"))).unwrap();
    assert_eq!(both.map(|name| value(&variables, name)), both.map(Some));
    let random = by_proxy(&of(vec![grant("mine", None, &both, "sk-strongroom-x")], Some("t"))).unwrap();
    assert_eq!(both.map(|name| value(&random, name)), [Some("sk-strongroom-x"); 2]);
}

#[test]
fn what_would_steer_programs_or_shells_is_refused() {
    for name in [
        "PATH",
        "LD_PRELOAD",
        "BASH_ENV",
        "STRONGROOM_HOME",
        "HTTPS_PROXY",
        "GIT_HTTP_PROXY_AUTHMETHOD",
        "A B",
        "A;B",
        "1A",
        "",
        "A=B",
    ] {
        assert!(by_proxy(&of(vec![grant("x", None, &[name], "p")], None)).is_err(), "{name:?}");
    }
    assert!(by_proxy(&of(vec![grant("path", None, &[], "p")], None)).is_err());
    for placeholder in ["", "a'b", "a b", "$(x)", "/tmp/x", "a\nb"] {
        assert!(by_proxy(&of(vec![grant("x", None, &["A"], placeholder)], None)).is_err(), "{placeholder:?}");
    }
}

#[test]
fn what_programs_run_or_load_or_send_keys_to_is_no_keys_variable() {
    for (group, names) in [
        ("git", &["GIT_SSH_COMMAND", "GIT_SSH", "GIT_ASKPASS", "GIT_EDITOR", "GIT_EXEC_PATH", "GIT_CONFIG_KEY_0"][..]),
        ("programs that ask or show", &["SSH_ASKPASS", "SUDO_ASKPASS", "VISUAL", "BROWSER", "LESSOPEN"]),
        ("shells", &["PS0", "PS1", "PS2", "PS3", "PS4", "PROMPT_COMMAND", "SHELLOPTS"]),
        ("interpreters", &["PERL5OPT", "RUBYOPT", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "DYLD_INSERT_LIBRARIES"]),
        ("whose and where", &["OLDPWD", "SSH_AUTH_SOCK", "LC_ALL"]),
        ("base URLs", &["OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "OPENAI_API_BASE", "AZURE_OPENAI_BASE_URL"]),
    ] {
        for name in names {
            assert!(!can_hold_a_key(name), "{group}: {name}");
        }
    }
    for name in ["GIT_TOKEN", "SSH_KEY", "PS", "PERL_KEY", "BASE_URL_KEY", "OPENAI_API_KEY", "LCD_KEY", "LC_API_KEY"] {
        assert!(can_hold_a_key(name), "{name}");
    }
}

#[test]
fn no_base_url_that_is_set_is_a_keys_variable_and_every_providers_key_has_one() {
    for provider in catalogue::all().unwrap() {
        for name in provider.base_url.keys() {
            assert!(!can_hold_a_key(name), "{name}");
        }
        for name in &provider.variables {
            assert!(can_hold_a_key(name), "{name}");
        }
    }
}

fn child(way: Way<'_>, inherited: &[(&str, &str)]) -> BTreeMap<String, String> {
    let environment = of(vec![openai()], None);
    let catalogue = catalogue::all().unwrap();
    let variables = make(&environment, way, &catalogue).unwrap();
    let inherited = inherited.iter().map(|(name, value)| (name.into(), value.into()));
    let child = of_child(inherited, &variables, &environment, way, &catalogue);
    child.into_iter().map(|(name, value)| (name.into_string().unwrap(), value.into_string().unwrap())).collect()
}

#[test]
fn our_own_settings_do_not_reach_the_child_whatever_they_are_called() {
    let goes = |name: &[u8]| goes(OsStr::from_bytes(name), &[]);
    assert!(goes(b"STRONGROOM_HOME") && goes(b"STRONGROOM_X\xff"));
    assert!(!goes(b"STRONGROOMS\xff") && !goes(b"HOME"));
}

#[test]
fn real_keys_and_ways_around_the_gateway_do_not_reach_the_child() {
    let child = child(
        Way::Proxy(Path::new("/run/ca.pem")),
        &[
            ("PATH", "/bin"),
            ("OPENAI_API_KEY", "sk-real"),
            ("ANTHROPIC_API_KEY", "sk-real"),
            ("ANTHROPIC_AUTH_TOKEN", "sk-real"),
            ("GH_TOKEN", "ghp_real"),
            ("STRONGROOM_PASSPHRASE_FILE", "/secret"),
            ("OPENAI_BASE_URL", "https://elsewhere.example"),
            ("HTTPS_PROXY", "http://proxy.example:3128"),
            ("NO_PROXY", "*"),
            ("npm_config_https_proxy", "http://proxy.example:3128"),
            ("NPM_CONFIG_PROXY", "http://proxy.example:3128"),
            ("SSL_CERT_FILE", "/etc/other.pem"),
        ],
    );
    assert_eq!((child["PATH"].as_str(), child["OPENAI_API_KEY"].as_str()), ("/bin", "sk-strongroom-x"));
    assert!(!child.values().any(|value| value.contains("real") || value.contains("proxy.example")), "{child:?}");
    for name in ["ANTHROPIC_AUTH_TOKEN", "GH_TOKEN", "STRONGROOM_PASSPHRASE_FILE", "OPENAI_BASE_URL"] {
        assert!(!child.contains_key(name), "{name}");
    }
    assert_eq!((child["NO_PROXY"].as_str(), child["SSL_CERT_FILE"].as_str()), (DIRECT, "/run/ca.pem"));
}

#[test]
fn by_base_url_another_proxy_stays_and_the_gateway_is_not_asked_through_it() {
    let stays = child(Way::BaseUrl, &[("https_proxy", "http://proxy.example:3128"), ("no_proxy", "intern.example")]);
    assert_eq!(stays["https_proxy"], "http://proxy.example:3128");
    assert_eq!(
        (stays["no_proxy"].as_str(), stays["NO_PROXY"].as_str()),
        ("intern.example,localhost,127.0.0.1,::1", DIRECT)
    );
    let other_agent = child(Way::BaseUrl, &[("HTTPS_PROXY", "http://other:strongroom-agent-t@127.0.0.1:7777")]);
    assert!(!other_agent.contains_key("HTTPS_PROXY") && !other_agent.contains_key("NO_PROXY"), "{other_agent:?}");
}
