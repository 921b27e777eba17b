//! Changes to the user's file by a command: its form and comments stay, and it is replaced whole or
//! not at all.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value, value};

use super::load::Loader;
use super::problem::{Problem, Problems};
use crate::domain::id::AgentId;

/// An agent to add.
#[derive(Debug, Clone)]
pub struct NewAgent {
    pub id: AgentId,
    pub manifest: Option<String>,
    pub cloud: Option<NewCloud>,
}

#[derive(Debug, Clone)]
pub struct NewCloud {
    pub account: String,
    pub roles: Vec<String>,
    pub users: Vec<String>,
    pub tags: Vec<(String, String)>,
    pub regions: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error("{path} cannot be read: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} cannot be written: {source}")]
    Write { path: PathBuf, source: io::Error },
    /// As it stands, before anything was added.
    #[error("the config has mistakes already; mend these first\n{0}")]
    Broken(Problems),
    #[error("agent {0} is in the config already")]
    Exists(AgentId),
    #[error("with this agent the config would have mistakes\n{0}")]
    Unsound(Problems),
    #[error("agents are written in {0} in another way than [[agent]], and adding one there would rewrite it")]
    OtherForm(PathBuf),
}

/// Adds an agent at the end of the file, which is made if it is not there. Answers the warnings about
/// the new config.
pub fn add_agent(path: &Path, agent: &NewAgent, loader: &Loader) -> Result<Vec<Problem>, EditError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => {
            return Err(EditError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    let name = path.display().to_string();
    let before = loader.parse(Some(path), &name, &text).map_err(EditError::Broken)?;
    if before.settings.agent(&agent.id).is_some() {
        return Err(EditError::Exists(agent.id.clone()));
    }
    let mut document: DocumentMut = text.parse().map_err(|_| EditError::OtherForm(path.to_owned()))?;
    let agents = document
        .entry("agent")
        .or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    let Item::ArrayOfTables(agents) = agents else {
        return Err(EditError::OtherForm(path.to_owned()));
    };
    agents.push(table(agent));
    let text = document.to_string();
    let after = loader.parse(Some(path), &name, &text).map_err(EditError::Unsound)?;
    write_atomically(path, text.as_bytes()).map_err(|source| EditError::Write {
        path: path.to_owned(),
        source,
    })?;
    Ok(after.warnings)
}

fn table(agent: &NewAgent) -> Table {
    let mut table = Table::new();
    table.decor_mut().set_prefix("\n");
    table.insert("id", value(agent.id.as_str()));
    if let Some(manifest) = &agent.manifest {
        table.insert("manifest", value(manifest));
    }
    if let Some(cloud) = &agent.cloud {
        let mut aws = Table::new();
        aws.insert("account", value(&cloud.account));
        for (key, list) in [
            ("roles", &cloud.roles),
            ("users", &cloud.users),
            ("regions", &cloud.regions),
        ] {
            if !list.is_empty() {
                aws.insert(key, value(list.iter().map(String::as_str).collect::<Array>()));
            }
        }
        if !cloud.tags.is_empty() {
            let tags: InlineTable = cloud
                .tags
                .iter()
                .map(|(key, tag)| (key.as_str(), Value::from(tag)))
                .collect();
            aws.insert("tags", value(tags));
        }
        table.insert("aws", Item::Table(aws));
    }
    table
}

/// Replaces a file by a new one beside it, synced before it takes the name: a reader sees the old text
/// or the new one, and so does who comes after a crash. The old one's permissions are kept; a link is
/// followed, so that it goes on pointing where it did.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let dir = target
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = dir.join(name);
    let written = (|| {
        let mut file = fs::File::create(&temporary)?;
        if let Ok(metadata) = fs::metadata(&target) {
            file.set_permissions(metadata.permissions())?;
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &target)?;
        fs::File::open(dir)?.sync_all()
    })();
    if written.is_err() {
        // It is not known how far it came; what was left behind is ours.
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::Environment;

    fn agent(id: &str) -> NewAgent {
        NewAgent {
            id: AgentId::new(id).unwrap(),
            manifest: None,
            cloud: None,
        }
    }

    fn loader() -> Loader {
        Loader::for_reader(Environment::default())
    }

    #[test]
    fn an_agent_is_added_and_the_rest_stays_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        let before = "# mine\n[ledger]\nhold_wait   =  \"30s\" # short\n\n[[agent]]\nid = \"a\"\n\n[[budget]]\nname = \"b\"\n\
                      scope = \"agent\"\nwindow = \"day\"\nlimit_usd = \"1\"\nresponse = \"alert\"\n";
        fs::write(&path, before).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let mut new = agent("b");
        new.cloud = Some(NewCloud {
            account: "123456789012".to_owned(),
            roles: vec!["arn:aws:iam::123456789012:role/b".to_owned()],
            users: Vec::new(),
            tags: vec![("backstop:agent".to_owned(), "b".to_owned())],
            regions: vec!["eu-west-1".to_owned()],
        });
        add_agent(&path, &new, &loader()).expect("sound");
        let after = fs::read_to_string(&path).unwrap();
        for line in before.lines() {
            assert!(
                after.lines().any(|there| there == line),
                "{line:?} is gone from\n{after}"
            );
        }
        let settings = loader()
            .load(Some(&path))
            .unwrap_or_else(|problems| panic!("{problems}\n{after}"))
            .settings;
        assert_eq!(settings.agents.len(), 2);
        let cloud = settings.agents[1].cloud.as_ref().expect("has a cloud side");
        assert_eq!(
            (cloud.principals.len(), cloud.tags.len(), cloud.regions.len()),
            (1, 1, 1)
        );
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_file_that_is_not_there_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        add_agent(&path, &agent("first"), &loader()).expect("sound");
        assert_eq!(loader().load(Some(&path)).expect("sound").settings.agents.len(), 1);
    }

    #[test]
    fn what_would_be_wrong_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        let text = "[[agent]]\nid = \"a\"\n";
        fs::write(&path, text).unwrap();
        assert!(matches!(
            add_agent(&path, &agent("a"), &loader()),
            Err(EditError::Exists(_))
        ));
        let mut wrong = agent("b");
        wrong.manifest = Some("absent.json".to_owned());
        assert!(matches!(
            add_agent(&path, &wrong, &loader()),
            Err(EditError::Unsound(_))
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        fs::write(&path, "[ledger]\nhold_wait = 5\n").unwrap();
        assert!(matches!(
            add_agent(&path, &agent("b"), &loader()),
            Err(EditError::Broken(_))
        ));
        fs::write(&path, "agent = [{ id = \"a\" }]\n").unwrap();
        assert!(matches!(
            add_agent(&path, &agent("b"), &loader()),
            Err(EditError::OtherForm(_))
        ));
    }
}
