//! The file of contexts: control planes that somebody has logged in to, with the keys that open them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::Failure;
use crate::cli::tls::TlsFiles;
use crate::config;
use crate::file_access;

/// Far more than anybody's contexts; a guard against the wrong file.
const LEN_MAX: u64 = 1 << 20;

/// Every context, by its name.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cli) struct Contexts {
    /// The one that is used when none is named.
    #[serde(default)]
    pub(in crate::cli) current: Option<String>,
    #[serde(default)]
    pub(in crate::cli) contexts: BTreeMap<String, Context>,
}

/// A control plane and the key that opens it; none when the certificate of `tls` does.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cli) struct Context {
    pub(in crate::cli) addr: String,
    #[serde(default)]
    pub(in crate::cli) api_key: Option<ApiKey>,
    #[serde(default)]
    pub(in crate::cli) tls: TlsFiles,
}

/// A token at rest in the file. Never shown.
pub(in crate::cli) struct ApiKey(pub(in crate::cli) Zeroizing<String>);

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

impl<'de> Deserialize<'de> for ApiKey {
    fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        String::deserialize(source).map(|text| Self(Zeroizing::new(text)))
    }
}

/// `$XDG_CONFIG_HOME/keystile/config.yaml`, or the same under `~/.config`.
pub(in crate::cli) fn path() -> Option<PathBuf> {
    let absolute = |name| {
        config::variable(name)
            .map(|text| PathBuf::from(text.as_str()))
            .filter(|path| path.is_absolute())
    };
    let base =
        absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    base.map(|base| base.join("keystile/config.yaml"))
}

impl Contexts {
    /// What is in the file; nothing if there is none.
    pub(in crate::cli) fn load() -> Result<Self, Failure> {
        let Some(path) = path() else {
            return Ok(Self::default());
        };
        match read(&path) {
            Ok(Some(text)) => parse(&text)
                .with_context(|| format!("cannot use {}", path.display()))
                .map_err(Failure::Config),
            Ok(None) => Ok(Self::default()),
            Err(error) => Err(Failure::Config(error)),
        }
    }

    /// Replaces the file, whole or not at all.
    pub(in crate::cli) fn save(&self) -> Result<PathBuf, Failure> {
        let path = path().ok_or_else(|| {
            Failure::failed(anyhow!(
                "nowhere to keep contexts\nhint: set XDG_CONFIG_HOME or HOME"
            ))
        })?;
        let text = self.text().map_err(Failure::failed)?;
        write(&path, &text)
            .with_context(|| format!("cannot write {}", path.display()))
            .map_err(Failure::Failed)?;
        Ok(path)
    }

    fn text(&self) -> serde_json::Result<Zeroizing<String>> {
        let entry = |(name, context): (&String, &Context)| {
            let Context { addr, api_key, tls } = context;
            let mut value = json!({"addr": addr});
            if let Some(ApiKey(key)) = api_key {
                value["api_key"] = key.as_str().into();
            }
            if *tls != TlsFiles::default() {
                value["tls"] = serde_json::to_value(tls)?;
            }
            Ok((name.clone(), value))
        };
        let contexts: serde_json::Result<serde_json::Map<_, _>> =
            self.contexts.iter().map(entry).collect();
        Ok(Zeroizing::new(config::yaml(
            &json!({"current": self.current, "contexts": contexts?}),
        )))
    }
}

fn parse(text: &str) -> anyhow::Result<Contexts> {
    // The parser's own words may quote the text, and the text holds keys.
    serde_saphyr::from_str(text).map_err(|error| {
        let line = error
            .location()
            .map(|at| format!(" near line {}", at.line()));
        anyhow!(
            "it is not a file of contexts{}\nhint: correct it, or remove it and log in again",
            line.unwrap_or_default()
        )
    })
}

fn read(path: &Path) -> anyhow::Result<Option<Zeroizing<String>>> {
    let cannot = || format!("cannot read {}", path.display());
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(cannot),
    };
    if let Some(exposure) = file_access::exposure_of_secret(path, &file).with_context(cannot)? {
        return Err(anyhow!("the file of contexts holds API keys: {exposure}"));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(LEN_MAX)
        .read_to_end(&mut bytes)
        .with_context(cannot)?;
    let text = file_access::utf8(&bytes);
    let text = text.map_err(|problem| anyhow!("{} {problem}", path.display()))?;
    Ok(Some(Zeroizing::new(text.to_owned())))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let new = dir.join(format!(".config.yaml.{}", std::process::id()));
    let written = write_new(&new, text).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        fs::remove_file(&new).ok();
    }
    written
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_the_key_does_not_show_in_debug() {
        let mut contexts = Contexts {
            current: Some("on".into()),
            ..Contexts::default()
        };
        for (name, addr) in [("on", "unix:/run/a b.sock"), ("0x1", "[::1]:9002")] {
            let context = Context {
                addr: addr.into(),
                api_key: Some(ApiKey(Zeroizing::new("ks_live_hunter2+/=".into()))),
                tls: serde_json::from_str(r#"{"ca": "/etc/ca 1.pem"}"#).unwrap(),
            };
            contexts.contexts.insert(name.into(), context);
        }
        let again = parse(&contexts.text().unwrap()).unwrap();
        assert_eq!(again.current.as_deref(), Some("on"));
        assert_eq!(again.contexts["on"].addr, "unix:/run/a b.sock");
        assert_eq!(again.contexts["on"].tls, contexts.contexts["on"].tls);
        let key = again.contexts["0x1"].api_key.as_ref();
        assert_eq!(key.unwrap().0.as_str(), "ks_live_hunter2+/=");
        assert!(!format!("{again:?}").contains("hunter2"));
    }

    #[test]
    fn a_damaged_file_is_not_quoted() {
        let error = parse("contexts: {a: {addr: x, api_key: [hunter2]}}").unwrap_err();
        assert!(!format!("{error:#}").contains("hunter2"), "{error:#}");
    }
}
