//! Credentials: named secrets and where they may go.
//!
//! Values come in and never go out. The last few of each credential are kept: answers are searched for all of them. A
//! removed credential is a tombstone that the scrubber still knows; purging erases its values for good. Called by `dispatch`.

use std::rc::Rc;

use rustls::pki_types::CertificateDer;
use strongroom_protocol::admin::{
    BadHost, BadKey, CredentialView, Failure, Field, LARGEST_ROOT, MOST_HOSTS, MOST_PINS, MOST_ROOTS, MOST_RULES,
    MOST_SITES, NewCredential, PAGE, Reply, Thing,
};
use strongroom_protocol::{Name, Refusal, SecretBytes, Site};

use super::{again, event, note, record, take_id};
use crate::audit::record::EventKind;
use crate::peer::Caller;
use crate::policy::key_strength;
use crate::policy::live::Live;
use crate::secret::Secret;
use crate::state::{Direction, State, now};
use crate::vault::contents::{Contents, Credential, Grant, Version};

/// A page of credentials, by name.
pub fn list(state: &State, after: Option<&Name>) -> Result<Reply, Failure> {
    let live = state.live().ok_or(Failure::Locked)?;
    let mut credentials: Vec<&Credential> =
        live.contents().credentials.iter().filter(|one| one.removed.is_none()).collect();
    credentials.sort_by(|one, other| one.name.cmp(&other.name));
    let mut rest = credentials.into_iter().filter(|one| after.is_none_or(|after| one.name > *after));
    let items = rest.by_ref().take(PAGE).map(|one| view(&live, one)).collect();
    Ok(Reply::Credentials { items, more: rest.next().is_some() })
}

/// One credential.
pub fn show(state: &State, name: &Name) -> Result<Reply, Failure> {
    let live = state.live().ok_or(Failure::Locked)?;
    let credential = live.contents().credentials.iter().find(|one| is_called(one, name));
    let credential = credential.ok_or(Failure::NoSuch(Thing::Credential))?;
    Ok(Reply::Credentials { items: vec![view(&live, credential)], more: false })
}

/// A new credential.
pub async fn add(state: &Rc<State>, caller: &Caller, new: NewCredential) -> Result<(), Failure> {
    check(&new)?;
    let weak = is_weak(&new.value, &new.key_prefix, new.allow_weak)?;
    check_fit(&new.sites, &new.value)?;
    let created = now();
    {
        // Said before it is written down; what holds when it is done is looked at again.
        let live = state.live().ok_or(Failure::Locked)?;
        check_new(live.contents(), &new)?;
    }
    record(state, event(state, EventKind::CredentialAdd, caller).named(new.name.clone()))?;
    state
        .change(Direction::Widening, |contents| {
            check_new(contents, &new)?;
            let value = locked(&new.value)?;
            let (id, changed) = (take_id(contents), contents.generation);
            contents.credentials.push(Credential {
                id,
                changed,
                name: new.name.clone(),
                provider: new.provider.clone(),
                hosts: new.hosts.clone(),
                sites: new.sites.clone(),
                route: new.route.clone(),
                roots: new.roots.clone(),
                variables: new.variables.clone(),
                key_prefix: new.key_prefix.clone(),
                deny: new.deny.clone(),
                keep_cookies: new.keep_cookies,
                allow_range: new.allow_range,
                created,
                removed: None,
                versions: vec![Version { number: 1, added: created, weak, value }],
                http2: new.http2,
                pins: new.pins.clone(),
            });
            Ok(())
        })
        .await
}

/// A new version of the value. Running exchanges keep the old one; the next request has the new. The value that is in use
/// already is none.
pub async fn rotate(
    state: &Rc<State>,
    caller: &Caller,
    name: &Name,
    value: &SecretBytes,
    allow_weak: bool,
) -> Result<Reply, Failure> {
    let added = now();
    {
        // Judged once before the log is written, so that a refused value is no event.
        let live = state.live().ok_or(Failure::Locked)?;
        let known = live
            .contents()
            .credentials
            .iter()
            .find(|one| is_called(one, name))
            .ok_or(Failure::NoSuch(Thing::Credential))?;
        is_weak(value, &known.key_prefix, allow_weak)?;
        check_fit(&known.sites, value)?;
        if known.versions.last().is_some_and(|newest| newest.value.matches(value.expose())) {
            return Ok(Reply::Unchanged);
        }
    }
    record(state, event(state, EventKind::CredentialRotate, caller).named(name.clone()))?;
    state
        .change(Direction::Widening, |contents| {
            let changed = contents.generation;
            let credential = find(contents, name)?;
            let weak = is_weak(value, &credential.key_prefix, allow_weak)?;
            check_fit(&credential.sites, value)?;
            let value = locked(value)?;
            let number = credential.versions.last().map_or(0, |version| version.number) + 1;
            credential.changed = changed;
            let versions = &mut credential.versions;
            // One that comes back is searched for as the newest.
            versions.retain(|older| !older.value.matches(&value));
            versions.push(Version { number, added, weak, value });
            versions.drain(..versions.len().saturating_sub(MOST_VERSIONS));
            Ok(Reply::Done)
        })
        .await
}

/// Tombstones a credential, revokes its grants and cuts its exchanges; `purge` erases its values too, and those of every
/// other that had its name.
pub async fn remove(state: &Rc<State>, caller: &Caller, name: &Name, purge: bool) -> Result<(), Failure> {
    let at = now();
    let kind = if purge { EventKind::CredentialPurge } else { EventKind::CredentialRemove };
    let live = state.live().ok_or(Failure::Locked)?;
    let credentials = &live.contents().credentials;
    let erases = |one: &Credential| purge && one.name == *name && !one.versions.is_empty();
    let chosen = credentials.iter().filter(|one| is_called(one, name) || erases(one));
    let ids: Vec<u64> = chosen.map(|credential| credential.id).collect();
    if ids.is_empty() {
        let was_there = state.is_unwritten() && credentials.iter().any(|one| one.name == *name);
        return if was_there { again(state).await } else { Err(Failure::NoSuch(Thing::Credential)) };
    }
    note(state, event(state, kind, caller).named(name.clone()));
    let written = state.change(Direction::Narrowing, |contents| {
        let changed = contents.generation;
        for credential in contents.credentials.iter_mut().filter(|one| ids.contains(&one.id)) {
            credential.changed = changed;
            credential.removed.get_or_insert(at);
            if purge {
                credential.versions.clear();
                // The backup is the file before this change, and holds the values; so may a vault that was put aside.
                state.was_purged();
            }
        }
        if purge {
            // Grants that ended before. Those that end with it are still answered as revoked.
            contents.grants.retain(|grant| !ids.contains(&grant.credential) || grant.revoked.is_none());
        }
        let is_of_them = |grant: &Grant| ids.contains(&grant.credential) && grant.revoked.is_none();
        for grant in contents.grants.iter_mut().filter(|grant| is_of_them(grant)) {
            grant.changed = changed;
            grant.revoked = Some(at);
        }
        Ok(())
    });
    let (outcome, ()) = tokio::join!(biased; written, async {
        state.running.cut(Refusal::Revoked, |exchange| ids.iter().any(|id| exchange.uses_credential(*id)));
    });
    outcome
}

/// Whether this is the living credential of that name.
pub fn is_called(credential: &Credential, name: &Name) -> bool {
    credential.removed.is_none() && credential.name == *name
}

fn find<'a>(contents: &'a mut Contents, name: &Name) -> Result<&'a mut Credential, Failure> {
    contents.credentials.iter_mut().find(|one| is_called(one, name)).ok_or(Failure::NoSuch(Thing::Credential))
}

/// Into locked memory.
fn locked(value: &SecretBytes) -> Result<Rc<Secret>, Failure> {
    Secret::copy_from(value.expose()).map(Rc::new).map_err(|_| Failure::LockedMemory)
}

fn is_weak(value: &SecretBytes, prefix: &str, allow_weak: bool) -> Result<bool, Failure> {
    match key_strength::judge(value.expose(), prefix) {
        Ok(()) => Ok(false),
        Err(BadKey::Short | BadKey::Guessable) if allow_weak => Ok(true),
        Err(bad) => Err(Failure::BadKey(bad)),
    }
}

/// JSON is UTF-8; every other position takes any byte of a key.
fn check_fit(sites: &[Site], value: &SecretBytes) -> Result<(), Failure> {
    let in_json = sites.iter().any(|site| matches!(site, Site::BodyJson { .. }));
    if in_json && std::str::from_utf8(value.expose()).is_err() {
        return Err(Failure::BadKey(BadKey::Character));
    }
    Ok(())
}

fn check(new: &NewCredential) -> Result<(), Failure> {
    let within = |is: bool, field| if is { Ok(()) } else { Err(Failure::OutOfBounds(field)) };
    within((1..=MOST_HOSTS).contains(&new.hosts.len()), Field::Hosts)?;
    within((1..=MOST_SITES).contains(&new.sites.len()), Field::Sites)?;
    within(new.roots.len() <= MOST_ROOTS, Field::Roots)?;
    within(new.deny.len() <= MOST_RULES, Field::Rules)?;
    let is_prefix = |text: &str| text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_graphic());
    within(is_prefix(&new.key_prefix), Field::KeyPrefix)?;
    let is_variable = |text: &String| {
        (1..=128).contains(&text.len())
            && !text.as_bytes()[0].is_ascii_digit()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    within(new.variables.len() <= 16 && new.variables.iter().all(is_variable), Field::Variables)?;
    let is_root = |der: &Vec<u8>| {
        der.len() <= LARGEST_ROOT && webpki::anchor_from_trusted_cert(&CertificateDer::from(der.as_slice())).is_ok()
    };
    within(new.roots.iter().all(is_root), Field::Roots)?;
    within(new.route.is_none() || new.hosts.iter().any(|host| host.exact().is_some()), Field::Route)?;
    let repeated = new.pins.iter().enumerate().any(|(index, pin)| new.pins[..index].contains(pin));
    within(new.pins.len() <= MOST_PINS && !repeated, Field::Pins)?;
    let twice = new.hosts.iter().enumerate().any(|(index, host)| new.hosts[..index].contains(host));
    if twice { Err(Failure::BadHost(BadHost::Twice)) } else { Ok(()) }
}

fn check_new(contents: &Contents, new: &NewCredential) -> Result<(), Failure> {
    if contents.credentials.iter().any(|one| is_called(one, &new.name)) {
        return Err(Failure::Exists(Thing::Credential));
    }
    check_route(contents, new)
}

/// Two credentials may share a route only where it leads to one place: the placeholder tells them apart there.
fn check_route(contents: &Contents, new: &NewCredential) -> Result<(), Failure> {
    let leads_to = new.hosts.iter().find_map(|host| host.exact());
    let taken = contents
        .credentials
        .iter()
        .filter(|one| one.removed.is_none() && one.route.is_some() && one.route == new.route)
        .any(|one| one.hosts.iter().find_map(|host| host.exact()) != leads_to);
    if taken { Err(Failure::RouteTaken) } else { Ok(()) }
}

fn view(live: &Live, credential: &Credential) -> CredentialView {
    let newest = credential.versions.last();
    let grants = live
        .contents()
        .grants
        .iter()
        .filter(|grant| grant.credential == credential.id && live.counts(grant, now()))
        .count();
    CredentialView {
        name: credential.name.clone(),
        provider: credential.provider.clone(),
        hosts: credential.hosts.clone(),
        sites: credential.sites.clone(),
        route: credential.route.clone(),
        roots: u32::try_from(credential.roots.len()).unwrap_or(u32::MAX),
        variables: credential.variables.clone(),
        deny: credential.deny.clone(),
        version: newest.map_or(0, |version| version.number),
        rotated: newest.map_or(0, |version| version.added),
        created: credential.created,
        scrubbed: credential.versions.iter().all(|version| !version.weak),
        grants: u32::try_from(grants).unwrap_or(u32::MAX),
        http2: credential.http2,
        pins: credential.pins.clone(),
        keep_cookies: credential.keep_cookies,
        allow_range: credential.allow_range,
    }
}

/// Values of a credential that are kept, the one in use among them: an upstream may still say an older one, and somebody may
/// want it back.
const MOST_VERSIONS: usize = 8;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::admin::operation::grant;
    use crate::state::fixture::{ADMIN, Fixture, new_grant};

    fn values(state: &State) -> Vec<Vec<u8>> {
        let live = state.live().unwrap();
        live.contents().credentials[0].versions.iter().map(|version| version.value.to_vec()).collect()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_value_in_use_is_no_new_version_and_one_that_comes_back_is_kept_once() {
        let fixture = Fixture::unlocked();
        let (state, name) = (&fixture.state, "openai".parse().unwrap());
        let rotate = async |value: &[u8]| rotate(state, &ADMIN, &name, &SecretBytes::new(value.to_vec()), true).await;
        let (x, y) = (vec![b'x'; 40], vec![b'y'; 40]);
        fixture
            .run(async {
                assert_eq!(values(state), [x.clone(), y.clone()]);
                let (generation, lines) = (state.live().unwrap().contents().generation, fixture.audit());
                assert!(matches!(rotate(&y).await, Ok(Reply::Unchanged)));
                assert_eq!((state.live().unwrap().contents().generation, fixture.audit()), (generation, lines));
                assert!(matches!(rotate(&x).await, Ok(Reply::Done)));
                assert_eq!(values(state), [y, x]);
                assert_eq!(state.live().unwrap().contents().credentials[0].versions.last().unwrap().number, 3);
            })
            .await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_last_values_are_kept_and_older_ones_go() {
        let fixture = Fixture::unlocked();
        let (state, name) = (&fixture.state, "openai".parse().unwrap());
        let value = |number: usize| format!("sk-value-{number:0>30}").into_bytes();
        fixture
            .run(async {
                for number in 0..2 * MOST_VERSIONS {
                    rotate(state, &ADMIN, &name, &SecretBytes::new(value(number)), true).await.unwrap();
                }
                let kept: Vec<_> = (MOST_VERSIONS..2 * MOST_VERSIONS).map(value).collect();
                assert_eq!(values(state), kept);
            })
            .await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_purge_takes_the_grants_along_that_had_ended_before() {
        let fixture = Fixture::unlocked();
        let (state, name, coder) = (&fixture.state, "openai".parse().unwrap(), "coder".parse().unwrap());
        fixture
            .run(async {
                grant::revoke(state, &ADMIN, &name, &coder).await.unwrap();
                grant::add(state, &ADMIN, new_grant("coder")).await.unwrap();
                let grants = || {
                    let live = state.live().unwrap();
                    let grants = live.contents().grants.iter();
                    grants.map(|grant| (grant.id, grant.revoked.is_some())).collect::<Vec<_>>()
                };
                assert_eq!(grants(), [(5, true), (6, false), (7, false)]);
                remove(state, &ADMIN, &name, true).await.unwrap();
                assert_eq!(grants(), [(6, true), (7, true)]);
                assert_eq!(fixture.file(crate::vault::create::tests::KEY.as_slice()).unwrap().1.check(), Ok(()));
            })
            .await;
    }
}
