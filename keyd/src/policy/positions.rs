//! Where the credentials of one authority take their keys: the tables that a request is held against.
//!
//! Made once for each generation of the vault and each authority, not once for each request. A removed credential's
//! positions are in it too, so that its placeholders are "revoked" there and not "misplaced"; but they make no other
//! value a stranger. It refuses nothing. Called by `live` (to make and keep), `decide` (to look).

use std::rc::Rc;

use http::{HeaderName, Method};
use strongroom_protocol::Site;

use crate::vault::contents::Credential;

/// Positions at one authority.
#[derive(Debug, Default)]
pub struct Declared {
    /// Ids of the credentials that name the authority, removed ones too.
    pub credentials: Vec<u64>,
    /// Header fields, each once.
    pub fields: Vec<Field>,
    /// Query parameters, each once.
    pub queries: Vec<Spot<Rc<str>>>,
    /// Beginnings of paths, each once.
    pub prefixes: Vec<Spot<Prefix>>,
    /// Places in bodies, each once.
    pub bodies: Vec<Spot<BodyPlace>>,
    /// Some credential is taken as a Basic password.
    pub takes_basic: bool,
}

/// A header field, and the shapes in which a key stands in it.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: HeaderName,
    /// Each once.
    pub shapes: Vec<Spot<Shape>>,
}

/// A position and who declares it.
#[derive(Debug)]
pub struct Spot<T> {
    /// Where.
    pub place: T,
    /// Ids of the credentials that declare it.
    pub by: Vec<u64>,
    /// One of them at least was not removed.
    pub in_use: bool,
}

/// What stands around a key in a header field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// This text before it and that after it.
    Around(Rc<str>, Rc<str>),
    /// The password of Basic; the user is the credential's.
    BasicPassword,
}

/// The beginning of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    /// Text before the key.
    pub before: Rc<str>,
    /// Text after it.
    pub after: Rc<str>,
}

/// A place in a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyPlace {
    /// Of a request with this method
    pub method: Method,
    /// and this canonical path.
    pub path: Rc<str>,
    /// The kind of body.
    pub kind: BodyKind,
    /// A JSON pointer, or the name of a form's field.
    pub at: Rc<str>,
}

/// A kind of body in which a key can stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// `application/json` and its like.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
}

impl Declared {
    /// The positions of these credentials.
    #[must_use]
    pub fn of<'a>(credentials: impl Iterator<Item = &'a Credential>) -> Self {
        let mut declared = Self::default();
        for credential in credentials {
            declared.credentials.push(credential.id);
            for site in &credential.sites {
                declared.add(credential, site);
            }
        }
        // Not looked at for the sake of nobody.
        declared.bodies.retain(|spot| spot.in_use);
        declared
    }

    fn add(&mut self, credential: &Credential, site: &Site) {
        let text = |text: &str| Rc::from(text);
        match site {
            Site::Bearer => self.field(credential, site, Shape::Around(text(BEARER), text(""))),
            Site::Header { before, after, .. } => {
                self.field(credential, site, Shape::Around(text(before), text(after)));
            }
            Site::Basic { .. } => {
                self.takes_basic |= credential.removed.is_none();
                self.field(credential, site, Shape::BasicPassword);
            }
            Site::Query { name } => note(&mut self.queries, text(name), credential),
            Site::PathPrefix { before, after } => {
                note(&mut self.prefixes, Prefix { before: text(before), after: text(after) }, credential);
            }
            Site::BodyJson { method, path, pointer } => self.body(credential, method, path, BodyKind::Json, pointer),
            Site::BodyForm { method, path, field } => self.body(credential, method, path, BodyKind::Form, field),
        }
    }

    fn field(&mut self, credential: &Credential, site: &Site, shape: Shape) {
        let Some(Ok(name)) = site.header_field().map(|name| HeaderName::from_bytes(name.as_bytes())) else { return };
        let at = self.fields.iter().position(|field| field.name == name).unwrap_or_else(|| {
            self.fields.push(Field { name, shapes: Vec::new() });
            self.fields.len() - 1
        });
        note(&mut self.fields[at].shapes, shape, credential);
    }

    fn body(&mut self, credential: &Credential, method: &str, path: &str, kind: BodyKind, at: &str) {
        let Ok(method) = Method::from_bytes(method.as_bytes()) else { return };
        note(&mut self.bodies, BodyPlace { method, path: path.into(), kind, at: at.into() }, credential);
    }
}

fn note<T: PartialEq>(spots: &mut Vec<Spot<T>>, place: T, credential: &Credential) {
    let in_use = credential.removed.is_none();
    match spots.iter_mut().find(|spot| spot.place == place) {
        Some(spot) => {
            spot.by.push(credential.id);
            spot.in_use |= in_use;
        }
        None => spots.push(Spot { place, by: vec![credential.id], in_use }),
    }
}

/// What stands before the key of a Bearer site; matched without regard to case (RFC 9110, 11.1), sent like this.
pub const BEARER: &str = "Bearer ";
