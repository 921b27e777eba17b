//! The systemd unit that the daemon runs under, as it is here.
//!
//! Where systemd runs it is asked for what is in force, drop-ins and all; else the unit's files are
//! read. A unit on another machine cannot be seen from here, and is not guessed at.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::domain::doctor::Finding;
use crate::domain::doctor::unit::{self, CHECK};

const SHIPPED: &str = include_str!("../../deploy/backstop.service");

/// The unit's usual name.
pub const USUAL: &str = "backstop.service";

/// Where units are, the strongest first.
const PLACES: &[&str] = &[
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// A unit's file at most.
const MOST: u64 = 1024 * 1024;

/// How long systemd may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The unit of that name, or in that file.
pub async fn look(unit: &str) -> Vec<Finding> {
    if unit.contains('/') {
        return vec![match read(Path::new(unit)) {
            Ok(text) => unit::finding(unit, &unit::lacks(SHIPPED, &[&text])),
            Err(why) => Finding::fail(
                CHECK,
                format!("{unit} cannot be read: {why}"),
                "name the unit's own file",
            ),
        }];
    }
    if Path::new("/run/systemd/system").is_dir() {
        return running(unit).await;
    }
    let installed = PLACES
        .iter()
        .map(|place| Path::new(place).join(unit))
        .find(|path| path.is_file());
    let Some(path) = installed else {
        return vec![Finding::not_checked(CHECK, "no systemd here")];
    };
    let files: Result<Vec<String>, String> = std::iter::once(path.clone())
        .chain(drop_ins(unit))
        .map(|path| read(&path).map_err(|why| format!("{}: {why}", path.display())))
        .collect();
    let files = match files {
        Ok(files) => files,
        Err(why) => return vec![Finding::not_checked(CHECK, why)],
    };
    let texts: Vec<&str> = files.iter().map(String::as_str).collect();
    let what = format!("{} (systemd does not run here)", path.display());
    vec![unit::finding(&what, &unit::lacks(SHIPPED, &texts))]
}

/// Files that are laid over the unit, in the order of their names.
fn drop_ins(unit: &str) -> Vec<PathBuf> {
    let entries = PLACES
        .iter()
        .filter_map(|place| std::fs::read_dir(Path::new(place).join(format!("{unit}.d"))).ok());
    let paths = entries.flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|kind| kind == "conf"))
        .collect();
    files.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    files
}

fn read(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MOST {
        return Err("it is larger than a unit can be".to_owned());
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

async fn running(unit: &str) -> Vec<Finding> {
    let mut properties = vec!["LoadState".to_owned(), "NeedDaemonReload".to_owned()];
    properties.extend(unit::properties(SHIPPED));
    let mut command = Command::new("systemctl");
    command.args(["show", "--no-pager", "--property", &properties.join(","), "--", unit]);
    command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = match tokio::time::timeout(PATIENCE, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return vec![Finding::not_checked(CHECK, format!("systemctl cannot be run: {error}"))],
        Err(_late) => return vec![Finding::not_checked(CHECK, "systemctl does not answer")],
    };
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return vec![Finding::not_checked(CHECK, format!("systemctl failed: {why}"))];
    }
    judged(unit, &String::from_utf8_lossy(&output.stdout))
}

/// What `systemctl show` said.
fn judged(unit: &str, shown: &str) -> Vec<Finding> {
    let is = |line: &str| shown.lines().any(|one| one == line);
    if !is("LoadState=loaded") {
        return vec![Finding::not_checked(
            CHECK,
            format!("systemd has no unit {unit} loaded; --unit names another"),
        )];
    }
    let mut findings = vec![unit::finding(unit, &unit::running_lacks(SHIPPED, shown))];
    if is("NeedDaemonReload=yes") {
        let found = format!("{unit} was changed on disk, and systemd goes on with the old one");
        findings.push(Finding::warn(CHECK, found, "systemctl daemon-reload, and restart it"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::doctor::Standing;

    #[test]
    fn a_unit_that_is_not_loaded_is_not_checked() {
        let found = judged("backstop.service", "LoadState=not-found\nNeedDaemonReload=no\n");
        assert!(matches!(found.as_slice(), [one] if one.standing == Standing::NotChecked));
        let found = judged(
            "backstop.service",
            "LoadState=loaded\nNeedDaemonReload=yes\nDynamicUser=no\n",
        );
        assert!(
            found.iter().all(|one| one.standing == Standing::Warn) && found.len() == 2,
            "{found:?}"
        );
    }

    #[tokio::test]
    async fn a_file_is_read_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("own.service");
        std::fs::write(&path, SHIPPED.replace("NoNewPrivileges=yes\n", "")).unwrap();
        let found = look(path.to_str().unwrap()).await;
        assert!(
            found[0].standing == Standing::Warn && found[0].found.contains("NoNewPrivileges=yes"),
            "{found:?}"
        );
        std::fs::write(&path, SHIPPED).unwrap();
        assert_eq!(look(path.to_str().unwrap()).await[0].standing, Standing::Ok);
        let gone = look("/nowhere/x.service").await;
        assert_eq!(gone[0].standing, Standing::Fail);
    }
}
