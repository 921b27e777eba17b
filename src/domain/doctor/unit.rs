//! A systemd unit against the shipped one: what of its hardening is missing.
//!
//! The shipped unit is the measure, so a directive that is added there is looked for from then on. What is
//! a site's own (paths, environment, credentials, limits) is left aside; [`SITES_OWN`] lists it. A unit is read
//! from its files as systemd reads them, or from the properties of the running one, which systemd
//! writes in words of its own.

use std::collections::BTreeMap;

use super::{Finding, some};

/// The name of the check.
pub const CHECK: &str = "unit";

/// Directives of `[Service]` that a site decides.
const SITES_OWN: &[&str] = &[
    "ConfigurationDirectory",
    "Environment",
    "ExecReload",
    "ExecStart",
    "LimitNOFILE",
    "LoadCredential",
    "OOMScoreAdjust",
    "RestartSec",
    "RuntimeDirectory",
    "RuntimeDirectoryMode",
    "StateDirectory",
    "StateDirectoryMode",
    "TimeoutStartSec",
    "TimeoutStopSec",
    "WatchdogSec",
    "WorkingDirectory",
];

/// Of the running unit's properties, whose form says nothing but that there is a filter.
const EXPANDED: &[&str] = &["SystemCallFilter"];

/// Directives of the `[Service]` section, each with its values in order.
pub type Directives = BTreeMap<String, Vec<String>>;

/// What the shipped unit asks for, that a site does not decide.
pub fn hardening(shipped: &str) -> Directives {
    let mut all = parse(&[shipped]);
    all.retain(|name, _| !SITES_OWN.contains(&name.as_str()));
    all
}

/// A unit's files, the drop-ins after it: later values join earlier ones, and an empty one takes them back.
pub fn parse(files: &[&str]) -> Directives {
    let mut found = Directives::new();
    for file in files {
        let mut section = String::new();
        for line in logical_lines(file) {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                name.clone_into(&mut section);
                continue;
            }
            let Some((name, value)) = line.split_once('=').filter(|_| section == "Service") else {
                continue;
            };
            let values = found.entry(name.trim().to_owned()).or_default();
            match value.trim() {
                "" => values.clear(),
                value => values.push(value.to_owned()),
            }
        }
    }
    found
}

/// Lines, with those that end in a backslash joined to the next.
fn logical_lines(file: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut open = false;
    for line in file.lines() {
        let (text, continues) = match line.strip_suffix('\\') {
            Some(text) => (text, true),
            None => (line, false),
        };
        match lines.last_mut().filter(|_| open) {
            Some(last) => {
                last.push(' ');
                last.push_str(text);
            }
            None => lines.push(text.to_owned()),
        }
        open = continues;
    }
    lines
}

/// What a unit that was read from its files lacks, as directives.
pub fn lacks(shipped: &str, files: &[&str]) -> Vec<String> {
    let found = parse(files);
    compare(
        shipped,
        |name, _| found.get(name).cloned().unwrap_or_default(),
        |name| found.contains_key(name),
    )
}

/// What the running unit lacks, by the lines that `systemctl show` prints.
pub fn running_lacks(shipped: &str, shown: &str) -> Vec<String> {
    let properties: BTreeMap<&str, &str> = shown.lines().filter_map(|line| line.split_once('=')).collect();
    let value = |name: &str, wanted: &[String]| {
        let Some(value) = properties.get(name).filter(|value| !value.is_empty()) else {
            return Vec::new();
        };
        // It prints every call by name: that there is a list at all is what can be compared.
        if EXPANDED.contains(&name) {
            return wanted.to_vec();
        }
        vec![(*value).to_owned()]
    };
    compare(shipped, value, |name| properties.contains_key(name))
}

/// The properties to ask for.
pub fn properties(shipped: &str) -> Vec<String> {
    hardening(shipped).into_keys().collect()
}

fn compare(
    shipped: &str,
    found: impl Fn(&str, &[String]) -> Vec<String>,
    is_there: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut missing = Vec::new();
    for (name, wanted) in hardening(shipped) {
        let is = found(&name, &wanted);
        // An empty list of capabilities must be said: a unit that says nothing has them all.
        let said = !wanted.is_empty() || is_there(&name);
        if !said || words(&is) != words(&wanted) {
            missing.push(format!("{name}={}", wanted.join(" ")));
        }
    }
    missing
}

/// A value, without what systemd writes in several ways.
fn words(values: &[String]) -> Vec<String> {
    let mut words: Vec<String> = values
        .iter()
        .flat_map(|value| value.split_whitespace())
        .map(|word| match word.to_ascii_lowercase().as_str() {
            "yes" | "true" | "on" | "1" => "yes".to_owned(),
            "no" | "false" | "off" | "0" => "no".to_owned(),
            // The number of the error, as a running unit shows it.
            "eperm" => "yes".to_owned(),
            other => other.to_owned(),
        })
        .collect();
    words.sort();
    words.dedup();
    words
}

/// What it means that these are missing.
pub fn finding(what: &str, missing: &[String]) -> Finding {
    if missing.is_empty() {
        return Finding::ok(CHECK, format!("{what} has all the hardening of the shipped unit"));
    }
    let found = format!("{what} lacks of the shipped unit: {}", some(missing));
    Finding::warn(
        CHECK,
        found,
        "take deploy/backstop.service, and put what is your own into a drop-in (systemctl edit)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::doctor::Standing;

    const SHIPPED: &str = include_str!("../../../deploy/backstop.service");

    #[test]
    fn the_shipped_unit_lacks_nothing_of_itself() {
        assert_eq!(lacks(SHIPPED, &[SHIPPED]), Vec::<String>::new());
        let asked = properties(SHIPPED);
        for name in [
            "DynamicUser",
            "NoNewPrivileges",
            "ProtectSystem",
            "CapabilityBoundingSet",
            "SystemCallFilter",
        ] {
            assert!(asked.iter().any(|one| one == name), "{name} in {asked:?}");
        }
        assert!(!asked.iter().any(|one| one == "ExecStart"));
    }

    /// Each line that is taken out is missed, by its name.
    #[test]
    fn whatever_is_taken_out_is_named() {
        for name in properties(SHIPPED) {
            let without: String = SHIPPED
                .lines()
                .filter(|line| line.split('=').next() != Some(name.as_str()))
                .flat_map(|line| [line, "\n"])
                .collect();
            let missing = lacks(SHIPPED, &[&without]);
            assert!(
                matches!(missing.as_slice(), [one] if one.starts_with(&format!("{name}="))),
                "{name}: {missing:?}"
            );
        }
    }

    #[test]
    fn a_unit_is_read_as_systemd_reads_it() {
        let drop_in = "# ours\n[Service]\nProtectHome=read-only\n; more\nEnvironment=A=b\n[Unit]\nUMask=0000\n";
        assert_eq!(lacks(SHIPPED, &[SHIPPED, drop_in]), ["ProtectHome=yes"]);
        let reset = "[Service]\nRestrictAddressFamilies=\nRestrictAddressFamilies=AF_UNIX \\\n  AF_INET6 AF_INET\n";
        assert_eq!(lacks(SHIPPED, &[SHIPPED, reset]), Vec::<String>::new());
        let emptied = "[Service]\nSystemCallFilter=\n";
        assert!(lacks(SHIPPED, &[SHIPPED, emptied])[0].starts_with("SystemCallFilter="));
        assert_eq!(
            lacks(SHIPPED, &[&SHIPPED.replace("DynamicUser=yes", "DynamicUser=true")]),
            Vec::<String>::new()
        );
        assert!(lacks(SHIPPED, &[]).len() > 30);
    }

    /// As systemd 252 shows the shipped unit; the filter is cut.
    const SHOWN: &str = "\
Type=notify
NotifyAccess=main
Restart=always
LimitCORE=0
DynamicUser=yes
UMask=0077
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
PrivateDevices=yes
PrivateMounts=yes
PrivateTmp=yes
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
RemoveIPC=yes
DevicePolicy=closed
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=accept accept4 bind brk close
SystemCallErrorNumber=EPERM
";

    #[test]
    fn a_running_unit_is_held_against_the_same() {
        assert_eq!(running_lacks(SHIPPED, SHOWN), Vec::<String>::new());
        for (from, to, missing) in [
            ("ProtectSystem=strict", "ProtectSystem=no", "ProtectSystem=strict"),
            ("NoNewPrivileges=yes", "NoNewPrivileges=no", "NoNewPrivileges=yes"),
            (
                "CapabilityBoundingSet=\n",
                "CapabilityBoundingSet=cap_chown cap_kill\n",
                "CapabilityBoundingSet=",
            ),
            ("CapabilityBoundingSet=\n", "", "CapabilityBoundingSet="),
            (
                "SystemCallFilter=accept accept4 bind brk close",
                "SystemCallFilter=",
                "SystemCallFilter=@system-service ~@privileged @resources",
            ),
        ] {
            assert_eq!(running_lacks(SHIPPED, &SHOWN.replace(from, to)), [missing], "{from}");
        }
        let other = SHOWN.replace("AF_INET AF_INET6 AF_UNIX", "AF_UNIX AF_INET6 AF_INET");
        assert_eq!(running_lacks(SHIPPED, &other), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_is_a_warning_and_no_failure() {
        assert_eq!(finding("the unit", &[]).standing, Standing::Ok);
        let found = finding("the unit", &["UMask=0077".to_owned()]);
        assert!(found.standing == Standing::Warn && found.found.contains("UMask=0077"));
    }
}
