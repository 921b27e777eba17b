//! Roles and users of the rehearsal: their policies with IAM's limits, their credentials, what binds them.
//!
//! As in IAM, an inline policy is refused where it has no room, the managed one is a single object for all
//! who have it, and a change of either binds a little later than it is stored.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::fleet::{FleetSnapshot, PrincipalSpec};
use super::world::after;
use crate::domain::containment::deny;
use crate::domain::containment::observed::{AccessKey, PrincipalState, ServiceCredential, Simulated};
use crate::domain::containment::target::Principal;

/// Why a change of a principal is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Nobody,
    NoRoom,
}

pub(super) struct Person {
    pub keys: Vec<AccessKey>,
    pub service_credentials: Vec<ServiceCredential>,
    pub profile_arns: Vec<String>,
    pub trusted: Vec<String>,
    /// What its other inline policies take.
    pub inline_chars: usize,
    /// It has as many managed policies as it may have.
    pub attachments_full: bool,
    /// The simulation knows nothing of its denies.
    pub simulation_is_blind: bool,
    has: Policies,
    /// What it had until when: for stale reads and for what still binds.
    before: Option<(Timestamp, Policies)>,
}

/// The policies of the kill switch's name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Policies {
    inline: Option<String>,
    attached: bool,
}

pub(super) struct People {
    all: BTreeMap<Principal, Person>,
    /// The managed policy, while there is one.
    managed: Option<String>,
}

impl Person {
    fn new(spec: PrincipalSpec) -> (Principal, Self) {
        let keys = spec.keys.into_iter().map(|(id, active)| AccessKey { id, active });
        let credentials = spec
            .service_credentials
            .into_iter()
            .map(|(id, active)| ServiceCredential {
                id,
                service: "bedrock.amazonaws.com".to_owned(),
                active,
            });
        let person = Self {
            keys: keys.collect(),
            service_credentials: credentials.collect(),
            profile_arns: spec.profile_arns,
            trusted: spec.trusted,
            inline_chars: spec.inline_chars,
            attachments_full: spec.attachments_full,
            simulation_is_blind: false,
            has: Policies::default(),
            before: None,
        };
        (spec.principal, person)
    }

    fn set(&mut self, policies: Policies, now: Timestamp) {
        if self.has != policies {
            self.before = Some((now, std::mem::replace(&mut self.has, policies)));
        }
    }

    /// What it had `window` ago, if it has changed since.
    fn at(&self, window: Option<Duration>, now: Timestamp) -> &Policies {
        match (&self.before, window) {
            (Some((since, before)), Some(window)) if now < after(*since, window) => before,
            _ => &self.has,
        }
    }
}

impl People {
    pub fn new(specs: Vec<PrincipalSpec>) -> Self {
        Self {
            all: specs.into_iter().map(Person::new).collect(),
            managed: None,
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Principal, &Person)> {
        self.all.iter()
    }

    pub fn get_mut(&mut self, principal: &Principal) -> Option<&mut Person> {
        self.all.get_mut(principal)
    }

    /// Whose access key it is, if it works.
    pub fn holder_of_key(&self, id: &str) -> Option<&Principal> {
        let holds = |person: &Person| person.keys.iter().any(|key| key.id == id && key.active);
        self.all
            .iter()
            .find(|(_, person)| holds(person))
            .map(|(principal, _)| principal)
    }

    pub fn key_mut(&mut self, user: Option<&str>, id: &str) -> Option<&mut AccessKey> {
        let keys = self.users_mut(user).flat_map(|person| &mut person.keys);
        keys.into_iter().find(|key| key.id == id)
    }

    pub fn service_credential_mut(&mut self, user: Option<&str>, id: &str) -> Option<&mut ServiceCredential> {
        let credentials = self.users_mut(user).flat_map(|person| &mut person.service_credentials);
        credentials.into_iter().find(|credential| credential.id == id)
    }

    /// The user of that name, or every principal.
    fn users_mut(&mut self, user: Option<&str>) -> impl Iterator<Item = &mut Person> {
        let is_meant = move |principal: &Principal| match (principal, user) {
            (Principal::User(_), Some(user)) => principal.name() == user,
            (_, wanted) => wanted.is_none(),
        };
        let people = self.all.iter_mut();
        people
            .filter(move |(principal, _)| is_meant(principal))
            .map(|(_, person)| person)
    }

    /// Writes or deletes the inline policy.
    pub fn set_inline(
        &mut self,
        principal: &Principal,
        document: Option<String>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let person = self.all.get_mut(principal).ok_or(Refusal::Nobody)?;
        if document.is_some() && deny::fits_inline(principal, Some(person.inline_chars)) == Some(false) {
            return Err(Refusal::NoRoom);
        }
        let attached = person.has.attached;
        let inline = document;
        person.set(Policies { inline, attached }, now);
        Ok(())
    }

    /// Attaches the managed policy, made to say this.
    pub fn attach(&mut self, principal: &Principal, document: &str, now: Timestamp) -> Result<(), Refusal> {
        let person = self.all.get_mut(principal).ok_or(Refusal::Nobody)?;
        self.managed = Some(document.to_owned());
        if person.attachments_full && !person.has.attached {
            return Err(Refusal::NoRoom);
        }
        let attached = Policies {
            attached: true,
            ..person.has.clone()
        };
        person.set(attached, now);
        Ok(())
    }

    /// Detaches it; the last one to do so deletes it.
    pub fn detach(&mut self, principal: &Principal, now: Timestamp) {
        if let Some(person) = self.all.get_mut(principal) {
            let detached = Policies {
                attached: false,
                ..person.has.clone()
            };
            person.set(detached, now);
        }
        if !self.all.values().any(|person| person.has.attached) {
            self.managed = None;
        }
    }

    /// Somebody else writes another version of the managed policy.
    pub fn set_managed(&mut self, document: &str) {
        self.managed = Some(document.to_owned());
    }

    /// Whether a principal may launch: nothing denies it, or not yet.
    pub fn may_launch(&self, principal: &Principal, binds_after: Duration, now: Timestamp) -> bool {
        let Some(person) = self.all.get(principal) else {
            return false;
        };
        !self.denied(person.at(Some(binds_after), now))
    }

    fn denied(&self, policies: &Policies) -> bool {
        let managed = self.managed.as_deref().filter(|_| policies.attached);
        let mut documents = policies.inline.as_deref().into_iter().chain(managed);
        documents.any(denies_launching)
    }

    pub fn look(&self, principal: &Principal, stale: Option<Duration>, now: Timestamp) -> PrincipalState {
        let Some(person) = self.all.get(principal) else {
            return PrincipalState::absent(principal.clone());
        };
        let policies = person.at(stale, now);
        PrincipalState {
            exists: true,
            deny_document: policies.inline.clone(),
            deny_attached: policies.attached,
            attached_document: self.managed.clone().filter(|_| policies.attached),
            keys: person.keys.clone(),
            service_credentials: person.service_credentials.clone(),
            profile_arns: person.profile_arns.clone(),
            trusted: person.trusted.clone(),
            ..PrincipalState::absent(principal.clone())
        }
    }

    /// Of an account in which everybody may do everything that is not denied.
    pub fn simulate(&self, principal: &Principal, actions: &[String]) -> Option<Vec<Simulated>> {
        let person = self.all.get(principal)?;
        let allowed = person.simulation_is_blind || !self.denied(&person.has);
        let said = |action: &String| Simulated {
            action: action.clone(),
            allowed,
        };
        Some(actions.iter().map(said).collect())
    }

    /// Writes people's part of a snapshot.
    pub fn show(&self, snapshot: &mut FleetSnapshot) {
        for (principal, person) in &self.all {
            let (arn, name) = (principal.arn().to_owned(), principal.name());
            snapshot.denies.insert(arn.clone(), person.has.inline.clone());
            snapshot.attached.insert(arn, person.has.attached);
            let keys = person.keys.iter().map(|key| (&key.id, key.active));
            let keys = keys.map(|(id, active)| (format!("{name}/{id}"), active));
            snapshot.keys.extend(keys);
            let credentials = person.service_credentials.iter().map(|one| (&one.id, one.active));
            let credentials = credentials.map(|(id, active)| (format!("{name}/{id}"), active));
            snapshot.service_credentials.extend(credentials);
        }
        snapshot.managed.clone_from(&self.managed);
    }
}

/// Whether a policy document denies launching machines. Read here on its own terms, so that a document
/// that only looks like a deny to its author denies nothing.
fn denies_launching(document: &str) -> bool {
    let Ok(document) = serde_json::from_str::<serde_json::Value>(document) else {
        return false;
    };
    let listed = |value: &serde_json::Value, wanted: &[&str]| match value {
        serde_json::Value::String(text) => wanted.contains(&text.as_str()),
        serde_json::Value::Array(items) => items
            .iter()
            .any(|item| item.as_str().is_some_and(|text| wanted.contains(&text))),
        _ => false,
    };
    let statements = match &document["Statement"] {
        serde_json::Value::Array(items) => items.clone(),
        one => vec![one.clone()],
    };
    statements.iter().any(|statement| {
        statement["Effect"] == "Deny"
            && statement.get("Condition").is_none()
            && listed(&statement["Action"], &["*", "ec2:*", "ec2:RunInstances"])
            && listed(&statement["Resource"], &["*"])
    })
}
