//! What keyd has told: which routes there are, and whether the vault is open.
//!
//! Names only; it decides nothing about who may use a route. A list that is not complete is not used.
//! Kept by the key client, read once for each request.

use std::collections::HashMap;
use std::rc::Rc;

use http::Method;
use http::header::HeaderName;
use strongroom_protocol::exchange::{BodyRequest, Route};
use strongroom_protocol::{Authority, Name, Refusal};

/// How keyd stands to us.
#[derive(Debug, Clone, Default)]
pub enum Standing {
    /// Not connected, or connected and not yet told anything.
    #[default]
    Unavailable,
    /// The vault is locked.
    Locked,
    /// The vault is open, with these routes.
    Open(Rc<Routes>),
}

impl Standing {
    /// The routes, or why there are none.
    ///
    /// # Errors
    /// [`Refusal::KeydUnavailable`] or [`Refusal::VaultLocked`].
    pub fn routes(&self) -> Result<Rc<Routes>, Refusal> {
        match self {
            Self::Unavailable => Err(Refusal::KeydUnavailable),
            Self::Locked => Err(Refusal::VaultLocked),
            Self::Open(routes) => Ok(routes.clone()),
        }
    }

    /// The same, for `systemctl status`.
    #[must_use]
    pub fn words(&self) -> &'static str {
        match self {
            Self::Unavailable => "keyd does not answer.",
            Self::Locked => "The vault is locked; 'strongroom unlock' opens it.",
            Self::Open(_) => "Serving: the vault is unlocked.",
        }
    }
}

/// The routes of one list.
#[derive(Debug, Default)]
pub struct Routes {
    by_name: HashMap<Name, Authority>,
    at: HashMap<Authority, Rc<Positions>>,
}

/// Where credentials of one authority take a placeholder.
#[derive(Debug, Default)]
pub struct Positions {
    fields: Vec<HeaderName>,
    bodies: Vec<BodyRequest>,
}

impl Positions {
    /// As keyd told them.
    #[must_use]
    pub fn new(fields: &[String], bodies: Vec<BodyRequest>) -> Self {
        let mut positions = Self::default();
        positions.add(fields, bodies);
        positions
    }

    fn add(&mut self, fields: &[String], bodies: Vec<BodyRequest>) {
        self.fields.extend(fields.iter().filter_map(|name| HeaderName::try_from(name).ok()));
        self.fields.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        self.fields.dedup();
        self.bodies.extend(bodies);
    }

    /// Fields in which credentials take a placeholder, sorted.
    #[must_use]
    pub fn fields(&self) -> &[HeaderName] {
        &self.fields
    }

    /// Whether a placeholder may be in the body of such a request, which is not looked at here: then nobody knows which
    /// others could share its channel. `target` is path and query as the agent sent them.
    #[must_use]
    pub fn may_be_in_body(&self, method: &Method, target: &str) -> bool {
        let path = target.split('?').next().unwrap_or(target);
        // keyd compares the canonical path; a path in which there is nothing to canonicalise is compared here.
        let is_plain = !path.contains('%') && !path.contains("//") && !path.contains("/.");
        self.bodies.iter().any(|body| body.method == method.as_str() && (!is_plain || body.path == path))
    }
}

impl Routes {
    /// Reads a list. Several credentials of one host come as several routes: the fields are those of all of them, so
    /// that requests which differ in any never share a channel.
    #[must_use]
    pub fn new(list: Vec<Route>) -> Self {
        let mut routes = Self::default();
        let mut positions: HashMap<Authority, Positions> = HashMap::new();
        for route in list {
            positions.entry(route.authority.clone()).or_default().add(&route.fields, route.bodies);
            // keyd gives no name to two authorities; were it to, the first would stand.
            routes.by_name.entry(route.name).or_insert(route.authority);
        }
        routes.at = positions.into_iter().map(|(authority, positions)| (authority, Rc::new(positions))).collect();
        routes
    }

    /// Where a route leads.
    #[must_use]
    pub fn authority(&self, name: &Name) -> Option<&Authority> {
        self.by_name.get(name)
    }

    /// Where credentials of this authority take a placeholder.
    #[must_use]
    pub fn positions(&self, authority: &Authority) -> Rc<Positions> {
        self.at.get(authority).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(name: &str, authority: &str, fields: &[&str]) -> Route {
        let fields = fields.iter().map(|field| (*field).to_owned()).collect();
        Route { name: name.parse().unwrap(), authority: authority.parse().unwrap(), fields, bodies: Vec::new() }
    }

    #[test]
    fn fields_of_every_credential_of_a_host_count() {
        let routes = Routes::new(vec![
            route("a", "a.example", &["x-api-key"]),
            route("a", "a.example", &["authorization", "x-api-key"]),
            route("alias", "a.example", &["x-third"]),
            route("b", "b.example:8443", &[]),
        ]);
        let authority = routes.authority(&"a".parse().unwrap()).unwrap();
        assert_eq!(authority.to_string(), "a.example:443");
        assert_eq!(routes.positions(authority).fields(), ["authorization", "x-api-key", "x-third"]);
        assert!(routes.positions(&"b.example:8443".parse().unwrap()).fields().is_empty());
        assert!(routes.authority(&"c".parse().unwrap()).is_none());
    }

    #[test]
    fn requests_with_a_position_in_the_body_are_known_in_every_spelling() {
        let body = BodyRequest { method: "POST".to_owned(), path: "/token".to_owned() };
        let mut with_body = route("a", "a.example", &[]);
        with_body.bodies = vec![body];
        let routes =
            Routes::new(vec![route("a", "a.example", &["x-api-key"]), with_body, route("b", "b.example", &[])]);
        let known = |authority: &str, method: Method, target: &str| {
            routes.positions(&authority.parse().unwrap()).may_be_in_body(&method, target)
        };
        for target in ["/token", "/token?x=1", "//token", "/x/../token", "/%74oken", "/./token"] {
            assert!(known("a.example", Method::POST, target), "{target}");
        }
        for target in ["/tokens", "/token/", "/v1/chat", "/?/token"] {
            assert!(!known("a.example", Method::POST, target), "{target}");
        }
        assert!(!known("a.example", Method::GET, "/token") && !known("b.example", Method::POST, "/token"));
    }

    #[test]
    fn without_routes_the_reason_is_told() {
        assert_eq!(Standing::default().routes().unwrap_err(), Refusal::KeydUnavailable);
        assert_eq!(Standing::Locked.routes().unwrap_err(), Refusal::VaultLocked);
        assert!(Standing::Open(Rc::default()).routes().is_ok());
    }
}
