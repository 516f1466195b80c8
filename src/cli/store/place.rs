//! Which store an argument names.

use std::path::{Path, PathBuf};

use crate::cli::Failure;
use crate::config::{self, Config, StorePlace};

/// `embedded:PATH`, a Redis URL, or a config file whose `store` counts. The environment does not: it would change
/// both sides of a copy alike.
pub(super) fn parse(option: &str, text: &str) -> Result<StorePlace, Failure> {
    if let Some(path) = text.strip_prefix("embedded:") {
        if path.is_empty() {
            return Err(Failure::usage(format!(
                "{option}: `embedded:` needs the path of the store's file after it"
            )));
        }
        let path = PathBuf::from(path);
        return Ok(StorePlace::Embedded { path });
    }
    let schemes = ["redis:", "rediss:", "unix:"];
    if schemes.iter().any(|scheme| text.starts_with(scheme)) {
        let redis = config::redis_at(text).map_err(|wrong| {
            Failure::usage(format!(
                "{option}: the URL {wrong}\nhint: what a URL cannot say is said in a config file; name that instead"
            ))
        })?;
        return Ok(StorePlace::Redis(Box::new(redis)));
    }
    let loaded = Config::load(Some(Path::new(text)), std::iter::empty());
    let loaded = loaded.map_err(|error| {
        let read_as = format!(
            "{option}: `{text}` is neither `embedded:PATH` nor a Redis URL, so it was read as a config file"
        );
        Failure::config(error).context(read_as)
    })?;
    Ok(loaded.config.store.place())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::redis::Topology;

    fn why(text: &str) -> String {
        parse("--from", text).unwrap_err().to_string()
    }

    #[test]
    fn each_form_names_a_store() {
        let embedded = parse("--from", "embedded:a b/s.redb").unwrap();
        let path = PathBuf::from("a b/s.redb");
        assert_eq!(embedded, StorePlace::Embedded { path });
        for (url, is_tls, database) in [
            ("redis://h:1", false, 0),
            ("rediss://h:1/3", true, 3),
            ("unix:/run/redis.sock", false, 0),
        ] {
            let StorePlace::Redis(redis) = parse("--to", url).unwrap() else {
                panic!("{url}");
            };
            assert_eq!((redis.tls.is_some(), redis.database), (is_tls, database));
            assert!(matches!(redis.topology, Topology::Standalone(_)));
        }
    }

    #[test]
    fn what_names_no_store_is_explained() {
        assert!(why("embedded:").contains("needs the path"));
        assert!(why("nope.yaml").contains("read as a config file"));
        let why = why("redis://user:secret@h:1");
        assert!(why.contains("password_file"), "{why}");
        assert!(!why.contains("secret"), "{why}");
    }
}
