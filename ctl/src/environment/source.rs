//! Where an agent's environment comes from: keyd for admins, gatewayd for the agent itself.
//!
//! keyd is asked first; where this user is no admin, or where only agent.sock is there as in a container, gatewayd is
//! asked, which answers for the agent that the kernel's evidence names and for no other. It refuses an answer about
//! another agent than the one that was asked for. Called by `env` and `run`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use strongroom_protocol::Name;
use strongroom_protocol::admin::{Operation, Reply};
use strongroom_protocol::environment::EnvironmentGrant;
use strongroom_protocol::home::Home;

use super::Environment;
use super::gateway_client::GatewayClient;
use crate::admin_client::{AdminClient, unexpected};
use crate::error::{CtlError, NOT_PERMITTED, Outcome, UNREACHABLE};

/// Asks for the agent's environment, and makes sure that its gateway is there.
///
/// # Errors
/// 69 where a daemon does not answer, 75 while the vault is locked, 77 where another agent asks, 1 where there is no
/// such agent.
pub fn environment(home: &Home, agent: &Name) -> Outcome<Environment> {
    let environment = match of_keyd(home, agent) {
        Ok(Some(environment)) => environment,
        Ok(None) => of_gateway(home, agent)?,
        // Nothing but agent.sock is here, as in a container. A keyd that is there and silent is not gone around.
        Err(error) if error.code() == UNREACHABLE && !home.admin_socket().exists() && home.agent_socket().exists() => {
            of_gateway(home, agent)?
        }
        Err(error) => return Err(error),
    };
    TcpStream::connect_timeout(&environment.gateway, PATIENCE).map_err(|error| {
        CtlError::unreachable(format!(
            "gatewayd cannot be reached at {}: {error}. Check 'listen' in gatewayd.toml and that this is no network of its own.",
            environment.gateway
        ))
    })?;
    Ok(environment)
}

/// keyd's account; none where this user is no admin.
fn of_keyd(home: &Home, agent: &Name) -> Outcome<Option<Environment>> {
    let Some(mut client) = AdminClient::connect_as_admin(home)? else { return Ok(None) };
    let mut grants: Vec<EnvironmentGrant> = Vec::new();
    let page = loop {
        let after = grants.last().map(|last| last.number);
        let page = match client.ask(Operation::Environment { agent: agent.clone(), after }) {
            Ok(Reply::Environment(page)) => page,
            Ok(_) => return Err(unexpected()),
            Err(error) if error.code() == NOT_PERMITTED => return Ok(None),
            Err(error) => return Err(error),
        };
        is_asked_for(&page.agent, agent)?;
        let progress = !page.grants.is_empty();
        grants.extend_from_slice(&page.grants);
        if !page.more || !progress {
            break page;
        }
    };
    let gateway = reachable(&GatewayClient::new(home).listen()?)?;
    Ok(Some(Environment { agent: page.agent, token: page.token, ca: page.ca, gateway, grants, as_admin: true }))
}

/// gatewayd's account, for the agent that asks.
fn of_gateway(home: &Home, agent: &Name) -> Outcome<Environment> {
    let client = GatewayClient::new(home);
    let mut grants: Vec<EnvironmentGrant> = Vec::new();
    let page = loop {
        let after = grants.last().map(|last| format!("&after={}", last.number)).unwrap_or_default();
        let mut page: AgentPage = client.ask(&format!("environment?agent={agent}{after}"))?;
        is_asked_for(&page.agent, agent)?;
        let progress = !page.grants.is_empty();
        grants.append(&mut page.grants);
        if !page.more || !progress || grants.len() > MOST_GRANTS {
            break page;
        }
    };
    let gateway = reachable(&page.listen)?;
    let ca = CertificateDer::from_pem_slice(page.ca.as_bytes()).map_err(|_| {
        CtlError::fault("gatewayd's certificate is not understood. Install programs of one release and restart them.")
    })?;
    Ok(Environment { agent: page.agent, token: None, ca: ca.to_vec(), gateway, grants, as_admin: false })
}

fn is_asked_for(told: &Name, asked: &Name) -> Outcome<()> {
    if told == asked {
        return Ok(());
    }
    Err(CtlError::not_permitted(format!(
        "this program is the agent {told} and not {asked}. Name that one, or ask an admin."
    )))
}

/// `/.strongroom/environment`
#[derive(Deserialize)]
struct AgentPage {
    agent: Name,
    ca: String,
    listen: Vec<String>,
    grants: Vec<EnvironmentGrant>,
    more: bool,
}

/// The address that programs of this machine use: loopback where gatewayd listens there, and for a wildcard.
fn reachable(listen: &[String]) -> Outcome<SocketAddr> {
    let addresses: Vec<SocketAddr> = listen.iter().filter_map(|text| text.parse().ok()).map(on_this_machine).collect();
    let loopback = addresses.iter().find(|address| address.ip().is_loopback());
    loopback.or(addresses.first()).copied().ok_or_else(|| {
        CtlError::unreachable(
            "gatewayd listens at no TCP address. Name one under 'listen' in gatewayd.toml, or speak to agent.sock.",
        )
    })
}

fn on_this_machine(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// Loopback connects at once; a bridge takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// A gatewayd that never ends its list is not listened to for ever.
const MOST_GRANTS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(listen: &[&str]) -> Option<String> {
        let listen: Vec<String> = listen.iter().map(ToString::to_string).collect();
        reachable(&listen).ok().map(|address| address.to_string())
    }

    #[test]
    fn loopback_comes_first_and_a_wildcard_means_it() {
        for (listen, address) in [
            (&["127.0.0.1:7777"][..], "127.0.0.1:7777"),
            (&["172.17.0.1:7777", "127.0.0.1:7777"], "127.0.0.1:7777"),
            (&["172.17.0.1:7777"], "172.17.0.1:7777"),
            (&["0.0.0.0:80"], "127.0.0.1:80"),
            (&["[::]:80"], "[::1]:80"),
            (&["nonsense", "[::1]:80"], "[::1]:80"),
        ] {
            assert_eq!(reached(listen).as_deref(), Some(address), "{listen:?}");
        }
        assert_eq!(reached(&[]), None);
    }

    #[test]
    fn without_daemons_keyd_is_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let error = environment(&Home::under(folder.path()), &"a".parse().unwrap()).unwrap_err();
        assert!(error.code() == 69 && error.to_string().contains("admin.sock"), "{error}");
    }
}
