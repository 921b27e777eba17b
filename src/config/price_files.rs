//! Which price files are in force: those that were imported, then those that the config names.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::references::reason;
use super::settings::Settings;
use crate::domain::price::litellm::{self, Origin};
use crate::domain::price::{PriceEntry, read_prices};

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

/// Reads one: Backstop's own form, or a list of LiteLLM.
pub fn read(path: &Path) -> Result<Vec<PriceEntry>, String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(litellm::MAX_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| reason(&error))?;
    let source = path.file_name().unwrap_or_default().to_string_lossy();
    // Our own form says for each price when it was read; of a foreign list nobody knows.
    let origin = Origin {
        source: &source,
        date: "",
    };
    read_prices(&bytes, &origin).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Loader};

    const PRICES: &str =
        r#"{"price": [{"service": "s", "models": ["m"], "second": "0.1", "source": "us", "date": "2026-11-20"}]}"#;

    #[test]
    fn imported_files_come_first_and_in_order() {
        let dir_ = tempfile::tempdir().unwrap();
        let path = dir_.path().join("config.toml");
        std::fs::write(dir_.path().join("mine.json"), PRICES).unwrap();
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
