//! Which price files are in force: those that were imported, then those that the config names.

use std::io;
use std::path::PathBuf;

use super::settings::Settings;

/// Where `backstop prices import` puts what it has read.
pub fn dir(settings: &Settings) -> PathBuf {
    settings.server.state_dir.join("prices")
}

/// Every price file, in the order in which later ones win: the imported ones by name, then
/// `prices.files` as they are listed.
pub fn list(settings: &Settings) -> io::Result<Vec<PathBuf>> {
    let mut imported = match std::fs::read_dir(dir(settings)) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    imported.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    imported.sort_unstable();
    imported.extend(settings.prices.files.iter().cloned());
    Ok(imported)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Loader};

    #[test]
    fn imported_files_come_first_and_in_order() {
        let dir_ = tempfile::tempdir().unwrap();
        let path = dir_.path().join("config.toml");
        std::fs::write(dir_.path().join("mine.json"), "{}").unwrap();
        std::fs::write(&path, "[prices]\nfiles = [\"mine.json\"]\n").unwrap();
        let loaded = Loader::for_reader(Environment::default()).load(Some(&path));
        let settings = loaded.unwrap_or_else(|problems| panic!("{problems}")).settings;
        assert_eq!(
            list(&settings).unwrap(),
            [dir_.path().join("mine.json")],
            "a directory that is not there is empty"
        );
        std::fs::create_dir_all(dir(&settings)).unwrap();
        for name in ["b.json", "a.json", "a.json.tmp"] {
            std::fs::write(dir(&settings).join(name), "{}").unwrap();
        }
        let names: Vec<_> = list(&settings)
            .unwrap()
            .iter()
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .collect();
        assert_eq!(names, ["a.json", "b.json", "mine.json"]);
    }
}
