//! A test that walks the types of everything that keyd says and looks for room for a key.
//!
//! Every place in a message of keyd's that could hold free text or bytes is on the list below, with the reason for
//! which no key can stand there. A new place fails the test until somebody has thought about it; so does one that is
//! gone. It refuses lists of numbers too, for a key is numbers. Tests only.

use postcard_schema::Schema;
use postcard_schema::schema::{DataModelType, DataModelVariant, NamedType, NamedVariant};

use crate::admin::{Reply, Rule};
use crate::exchange::KeydMessage;
use crate::{Authority, Name};

/// These travel as one string each.
macro_rules! travels_as_text {
    ($($type:ident)*) => {
        $(impl Schema for $type {
            const SCHEMA: &'static NamedType = &NamedType { name: stringify!($type), ty: &DataModelType::String };
        })*
    };
}

travels_as_text! { Authority Name Rule }

/// Places in [`KeydMessage`].
const GATEWAY: &[(&str, &str)] = &[
    ("Environment.page.agent: Name", "a name that an admin chose, from a narrow alphabet"),
    ("Environment.page.ca: Vec<u8>", "a certificate, made of public parts"),
    ("Environment.page.grants[].credential: Name", "a name that an admin chose, from a narrow alphabet"),
    (
        "Environment.page.grants[].placeholder: String",
        "a placeholder: random or a variable's name, and worth nothing elsewhere",
    ),
    ("Environment.page.grants[].provider?: Name", "a name from the catalogue"),
    ("Environment.page.grants[].route?: Name", "a name that an admin chose, from a narrow alphabet"),
    ("Environment.page.grants[].variables[]: String", "names of environment variables"),
    ("Environment.page.token?: String", "an agent's token: random, worth nothing elsewhere, and none is sent here"),
    ("Intercept.bodies[].method: String", "a method, from sites"),
    ("Intercept.bodies[].path: String", "a path, from sites"),
    ("Intercept.fields[]: String", "names of header fields, from sites"),
    ("Intercept.leaf?.certificate: Vec<u8>", "a certificate, made of public parts"),
    ("Routes.routes[].authority: Authority", "a host and a port, parsed"),
    ("Routes.routes[].bodies[].method: String", "a method, from sites"),
    ("Routes.routes[].bodies[].path: String", "a path, from sites"),
    ("Routes.routes[].fields[]: String", "names of header fields, from sites"),
    ("Routes.routes[].name: Name", "a name that an admin chose, from a narrow alphabet"),
    ("Welcome.version: String", "keyd's version, known when it was built"),
];

/// Places in [`Reply`].
const ADMIN: &[(&str, &str)] = &[
    ("Agents.items[].egress[].Exact.0: Authority", "a host and a port, parsed"),
    ("Agents.items[].egress[].OneLabelBefore.0: Authority", "a host and a port, parsed"),
    ("Agents.items[].name: Name", "a name that an admin chose, from a narrow alphabet"),
    ("Agents.items[].uids: Vec<u32>", "numbers of users, from the admin"),
    ("Agents.items[].unit?: String", "the name of a unit, from the admin"),
    ("Audit.lines[]: String", "lines of the log, which are made without keys"),
    ("AuditVerified.0.chain: String", "a keyed hash"),
    ("Authorities.0[].certificate: Vec<u8>", "a certificate, made of public parts"),
    ("Checks.gatewayd?[].detail: String", "gatewayd's words, and gatewayd has no key"),
    ("Checks.gatewayd?[].name: String", "gatewayd's words, and gatewayd has no key"),
    ("Checks.gatewayd?[].remedy: String", "gatewayd's words, and gatewayd has no key"),
    ("Checks.keyd[].detail: String", "made at the start, before a vault was unlocked"),
    ("Checks.keyd[].name: String", "a constant"),
    ("Checks.keyd[].remedy: String", "made at the start, before a vault was unlocked"),
    ("Credentials.items[].deny[]: Rule", "a method and a path pattern, from the admin"),
    ("Credentials.items[].hosts[].Exact.0: Authority", "a host and a port, parsed"),
    ("Credentials.items[].hosts[].OneLabelBefore.0: Authority", "a host and a port, parsed"),
    ("Credentials.items[].name: Name", "a name that an admin chose, from a narrow alphabet"),
    ("Credentials.items[].pins[]: [u8; 32]", "hashes of public keys, from the admin"),
    ("Credentials.items[].provider?: Name", "a name from the catalogue"),
    ("Credentials.items[].route?: Name", "a name that an admin chose, from a narrow alphabet"),
    ("Credentials.items[].sites[].Basic.user: String", "a user name, and the key is the password"),
    ("Credentials.items[].sites[].BodyForm.field: String", "the name of a form's field"),
    ("Credentials.items[].sites[].BodyForm.method: String", "a method"),
    ("Credentials.items[].sites[].BodyForm.path: String", "a path, from the admin"),
    ("Credentials.items[].sites[].BodyJson.method: String", "a method"),
    ("Credentials.items[].sites[].BodyJson.path: String", "a path, from the admin"),
    ("Credentials.items[].sites[].BodyJson.pointer: String", "a place in a document"),
    ("Credentials.items[].sites[].Header.after: String", "what stands after a key, not the key"),
    ("Credentials.items[].sites[].Header.before: String", "what stands before a key, not the key"),
    ("Credentials.items[].sites[].Header.field: String", "the name of a header field"),
    ("Credentials.items[].sites[].PathPrefix.after: String", "what stands after a key, not the key"),
    ("Credentials.items[].sites[].PathPrefix.before: String", "what stands before a key, not the key"),
    ("Credentials.items[].sites[].Query.name: String", "the name of a parameter"),
    ("Credentials.items[].variables[]: String", "names of environment variables"),
    ("Derivation.0.salt: [u8; 16]", "a salt stands in the vault's header, in the clear"),
    ("Environment.0.agent: Name", "a name that an admin chose, from a narrow alphabet"),
    ("Environment.0.ca: Vec<u8>", "a certificate, made of public parts"),
    ("Environment.0.grants[].credential: Name", "a name that an admin chose, from a narrow alphabet"),
    (
        "Environment.0.grants[].placeholder: String",
        "a placeholder: random or a variable's name, and worth nothing elsewhere",
    ),
    ("Environment.0.grants[].provider?: Name", "a name from the catalogue"),
    ("Environment.0.grants[].route?: Name", "a name that an admin chose, from a narrow alphabet"),
    ("Environment.0.grants[].variables[]: String", "names of environment variables"),
    ("Environment.0.token?: String", "an agent's token: random, and worth nothing elsewhere"),
    ("Grants.items[].agent: Name", "a name that an admin chose, from a narrow alphabet"),
    ("Grants.items[].allow[]: Rule", "a method and a path pattern, from the admin"),
    ("Grants.items[].credential: Name", "a name that an admin chose, from a narrow alphabet"),
    ("Grants.items[].placeholder: String", "a placeholder: random, and worth nothing elsewhere"),
    ("Placeholder.0: String", "a placeholder: random, and worth nothing elsewhere"),
    ("Restore.0.changes[].agent?: Name", "a name that an admin chose, from a narrow alphabet"),
    ("Restore.0.changes[].credential?: Name", "a name that an admin chose, from a narrow alphabet"),
    ("Status.0.mismatches[].agent: Name", "a name that an admin chose, from a narrow alphabet"),
    ("Status.0.mismatches[].by?: Name", "a name that an admin chose, from a narrow alphabet"),
    ("Status.0.unlock?.salt: [u8; 16]", "a salt stands in the vault's header, in the clear"),
    ("Status.0.version: String", "keyd's version, known when it was built"),
    ("Token.0: String", "an agent's token: random, and worth nothing elsewhere"),
    (
        "VaultFile.0: Vec<u8>",
        "the vault file as it lies on the disk: keys are in it, encrypted under one that no message carries",
    ),
];

fn places<T: Schema>() -> Vec<String> {
    let mut found = Vec::new();
    walk(T::SCHEMA, "", &mut found);
    found.sort();
    found
}

fn walk(named: &NamedType, path: &str, found: &mut Vec<String>) {
    let inside = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match named.ty {
        DataModelType::Bool | DataModelType::Unit | DataModelType::UnitStruct => {}
        // A single number of up to eight bytes: a count, a time, a port.
        ty if is_small_number(ty) => {}
        DataModelType::Option(inner) => walk(inner, &format!("{path}?"), found),
        DataModelType::NewtypeStruct(inner) => walk(inner, path, found),
        DataModelType::Seq(item) if is_number(item.ty) => found.push(format!("{path}: Vec<{}>", item.name)),
        DataModelType::Seq(item) => walk(item, &format!("{path}[]"), found),
        DataModelType::Tuple(items) if items.len() > 1 && items.iter().all(|item| is_number(item.ty)) => {
            found.push(format!("{path}: [{}; {}]", items[0].name, items.len()));
        }
        DataModelType::Tuple(items) | DataModelType::TupleStruct(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &inside(&index.to_string()), found);
            }
        }
        DataModelType::Struct(fields) => fields.iter().for_each(|field| walk(field.ty, &inside(field.name), found)),
        DataModelType::Enum(variants) => {
            variants.iter().for_each(|variant| walk_variant(variant, &inside(variant.name), found))
        }
        // Text, bytes, maps, 128-bit numbers, and whatever this test does not know.
        _ => found.push(format!("{path}: {}", named.name)),
    }
}

fn walk_variant(variant: &NamedVariant, path: &str, found: &mut Vec<String>) {
    match variant.ty {
        DataModelVariant::UnitVariant => {}
        DataModelVariant::NewtypeVariant(inner) => walk(inner, &format!("{path}.0"), found),
        DataModelVariant::TupleVariant(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &format!("{path}.{index}"), found);
            }
        }
        DataModelVariant::StructVariant(fields) => {
            fields.iter().for_each(|field| walk(field.ty, &format!("{path}.{}", field.name), found));
        }
    }
}

fn is_small_number(ty: &DataModelType) -> bool {
    use DataModelType::{I8, I16, I32, I64, U8, U16, U32, U64};
    matches!(ty, U8 | U16 | U32 | U64 | I8 | I16 | I32 | I64)
}

fn is_number(ty: &DataModelType) -> bool {
    use DataModelType::{Char, F32, F64, I128, Isize, U128, Usize};
    is_small_number(ty) || matches!(ty, U128 | I128 | Usize | Isize | F32 | F64 | Char)
}

fn listed(list: &[(&str, &str)]) -> Vec<String> {
    assert!(list.iter().all(|(_, reason)| !reason.is_empty()));
    list.iter().map(|(path, _)| (*path).to_owned()).collect()
}

#[test]
fn nothing_that_keyd_tells_gatewayd_has_room_for_a_key() {
    assert_eq!(places::<KeydMessage>(), listed(GATEWAY));
}

#[test]
fn nothing_that_keyd_tells_an_admin_has_room_for_a_key() {
    assert_eq!(places::<Reply>(), listed(ADMIN));
}

/// The twin: types with room, in every shape that a careless change could bring.
#[test]
fn room_is_found_where_there_is_some() {
    #[derive(Schema)]
    #[allow(dead_code)]
    enum Careless {
        Key(Vec<u8>),
        Fixed([u8; 32]),
        Words { key: Vec<u64> },
        Wide(u128),
        Pair(u8, Inner),
        Harmless(u64, bool, Option<u32>),
    }
    #[derive(Schema)]
    #[allow(dead_code)]
    struct Inner {
        value: Option<Vec<Option<String>>>,
        letters: [char; 4],
    }
    let expected = [
        "Fixed.0: [u8; 32]",
        "Key.0: Vec<u8>",
        "Pair.1.letters: [char; 4]",
        "Pair.1.value?[]?: String",
        "Wide.0: u128",
        "Words.key: Vec<u64>",
    ];
    assert_eq!(places::<Careless>(), expected);
}

/// The schemas written by hand or derived beside a hand-written reader say what is really on the wire.
#[test]
fn schemas_match_the_bytes() {
    let text = |text: &str| postcard::to_stdvec(text).expect("encodes");
    assert_eq!(postcard::to_stdvec(&"openai".parse::<Name>().expect("a name")), Ok(text("openai")));
    assert_eq!(
        postcard::to_stdvec(&"a.example".parse::<Authority>().expect("an authority")),
        Ok(text("a.example:443"))
    );
    assert_eq!(postcard::to_stdvec(&"GET /v1/*".parse::<Rule>().expect("a rule")), Ok(text("GET /v1/*")));
}
