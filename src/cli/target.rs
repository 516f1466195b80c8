//! Which control plane a command talks to, and with which key: flags, then environment, then context, then default.

use std::path::Path;

use anyhow::anyhow;
use zeroize::Zeroizing;

use crate::cli::Failure;
use crate::cli::context::file::{Context, Contexts};
use crate::cli::credential;
use crate::cli::endpoint::{Address, ClientArgs};
use crate::cli::prompt;
use crate::cli::tls::{TlsArgs, TlsFiles};
use crate::config;

const DEFAULT_ADDRESS: &str = "127.0.0.1:9002";
const ADDRESS_VARIABLE: &str = "KEYSTILE_ADDR";
const KEY_VARIABLE: &str = "KEYSTILE_API_KEY";
const CONTEXT_VARIABLE: &str = "KEYSTILE_CONTEXT";

/// A control plane and the key that opens it; none when a certificate does.
pub(super) struct Target {
    pub(super) address: Address,
    pub(super) token: Option<Zeroizing<String>>,
    pub(super) tls: TlsArgs,
}

impl Target {
    /// What the flags, the environment and the contexts say together.
    pub(super) fn resolve(args: &ClientArgs) -> Result<Self, Failure> {
        let given = Given {
            address: args.addr.clone(),
            key_file: args.api_key_file.as_deref(),
            address_variable: parsed_variable()?,
            key_variable: key_variable()?,
            context_flag: args.context.is_some(),
            certificate: args.tls.identifies_us(),
        };
        let found = if given.needs_context() {
            context(args.context.clone())?
        } else {
            None
        };
        let (address, token) = given.choose(found.as_ref())?;
        let own = found.as_ref().filter(|found| found.address == address);
        let tls = own.map_or_else(|| args.tls.clone(), |found| args.tls.or(&found.tls));
        Ok(Self {
            address,
            token,
            tls,
        })
    }
}

/// An environment variable that is set to something.
fn variable(name: &str) -> Option<Zeroizing<String>> {
    config::variable(name).filter(|value| !value.is_empty())
}

fn key_variable() -> Result<Option<Zeroizing<String>>, Failure> {
    let key = variable(KEY_VARIABLE);
    let problem = key.as_ref().and_then(|key| credential::mistake(key));
    match problem {
        Some(problem) => Err(Failure::usage(format!("{KEY_VARIABLE} {problem}"))),
        None => Ok(key),
    }
}

fn parsed_variable() -> Result<Option<Address>, Failure> {
    let Some(text) = variable(ADDRESS_VARIABLE) else {
        return Ok(None);
    };
    let address = text.parse::<Address>();
    address
        .map(Some)
        .map_err(|problem| Failure::usage(format!("{ADDRESS_VARIABLE}: {problem}")))
}

/// The context that is named, or else the one in use, with its name and its address.
struct Found {
    name: String,
    address: Address,
    token: Option<Zeroizing<String>>,
    tls: TlsFiles,
}

fn context(flag: Option<String>) -> Result<Option<Found>, Failure> {
    let mut contexts = Contexts::load()?;
    let named = flag.or_else(|| variable(CONTEXT_VARIABLE).map(|name| name.to_string()));
    let Some(name) = named.or_else(|| contexts.current.clone()) else {
        return Ok(None);
    };
    let context = contexts.contexts.remove(&name).ok_or_else(|| {
        Failure::failed(anyhow!(
            "there is no context `{name}`\nhint: `keystile context list` shows those that there are; `keystile login --context {name}` makes it"
        ))
    })?;
    Ok(Some(Found {
        address: address_of(&name, &context)?,
        token: context.api_key.map(|key| key.0),
        tls: context.tls,
        name,
    }))
}

fn address_of(name: &str, context: &Context) -> Result<Address, Failure> {
    context.addr.parse().map_err(|problem| {
        Failure::Config(anyhow!(
            "the address of context `{name}` {problem}\nhint: `keystile login --context {name} --addr …` corrects it"
        ))
    })
}

/// What was said on the command line and in the environment.
struct Given<'a> {
    address: Option<Address>,
    key_file: Option<&'a Path>,
    address_variable: Option<Address>,
    key_variable: Option<Zeroizing<String>>,
    context_flag: bool,
    /// Whether a client certificate says who we are when no key does.
    certificate: bool,
}

impl Given<'_> {
    /// Whether anything is left for a context to say: a damaged file of contexts is in nobody's way who uses none.
    fn needs_context(&self) -> bool {
        let address = self.address.is_some() || self.address_variable.is_some();
        let key = self.key_file.is_some() || self.key_variable.is_some();
        self.context_flag || !address || !key
    }

    fn choose(
        self,
        found: Option<&Found>,
    ) -> Result<(Address, Option<Zeroizing<String>>), Failure> {
        // A context that is named on the command line outranks the environment, as every flag does.
        let by_flag = found.filter(|_| self.context_flag);
        let address = self
            .address
            .or_else(|| by_flag.map(|found| found.address.clone()))
            .or(self.address_variable)
            .or_else(|| found.map(|found| found.address.clone()))
            .map_or_else(default_address, Ok)?;
        // A context's key is for its own address: it is not shown to any other.
        let own = |found: &&Found| found.address == address;
        if let Some(path) = self.key_file {
            return Ok((address, Some(prompt::credential_from(path)?)));
        }
        let key = by_flag
            .filter(own)
            .and_then(|found| found.token.clone())
            .or(self.key_variable)
            .or_else(|| found.filter(own).and_then(|found| found.token.clone()));
        let certified = self.certificate
            || found
                .filter(own)
                .is_some_and(|found| found.tls.identifies_us());
        if key.is_none() && !certified {
            return Err(no_key(&address, found));
        }
        Ok((address, key))
    }
}

fn no_key(address: &Address, found: Option<&Found>) -> Failure {
    let problem = found.map_or_else(String::new, |found| {
        format!(
            "; that of context `{}` is for {} alone",
            found.name, found.address.shown
        )
    });
    Failure::failed(anyhow!(
        "no API key for {}{problem}\nhint: `keystile login`, or set {KEY_VARIABLE} or --api-key-file (`keystile bootstrap` makes the first key)",
        address.shown
    ))
}

fn default_address() -> Result<Address, Failure> {
    DEFAULT_ADDRESS.parse().map_err(Failure::usage)
}

/// Where to log in: the flag, the environment, what the context has been told before, the default.
pub(super) fn address_for_login(
    args: &ClientArgs,
    known: Option<&Context>,
) -> Result<Address, Failure> {
    if let Some(address) = &args.addr {
        return Ok(address.clone());
    }
    if let Some(address) = parsed_variable()? {
        return Ok(address);
    }
    known.map_or_else(default_address, |context| {
        address_of(args.context.as_deref().unwrap_or("default"), context)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn secret(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[test]
    fn flags_outrank_environment_outranks_context_outranks_default() {
        let none = || None::<&str>;
        // flag, variable, key variable, --context, is there a context -> address, key
        let table = [
            (
                none(),
                none(),
                Some("env"),
                false,
                false,
                "127.0.0.1:9002",
                Some("env"),
            ),
            (none(), none(), none(), false, true, "ctx:1", Some("ctx")),
            (
                none(),
                none(),
                Some("env"),
                false,
                true,
                "ctx:1",
                Some("env"),
            ),
            (
                none(),
                none(),
                Some("env"),
                true,
                true,
                "ctx:1",
                Some("ctx"),
            ),
            (
                none(),
                Some("var:1"),
                Some("env"),
                false,
                true,
                "var:1",
                Some("env"),
            ),
            (
                none(),
                Some("var:1"),
                Some("env"),
                true,
                true,
                "ctx:1",
                Some("ctx"),
            ),
            (
                Some("flag:1"),
                Some("var:1"),
                Some("env"),
                true,
                true,
                "flag:1",
                Some("env"),
            ),
            // The key of a context goes to no other address.
            (Some("flag:1"), none(), none(), true, true, "flag:1", none()),
            (none(), Some("var:1"), none(), false, true, "var:1", none()),
            (
                Some("ctx:1"),
                none(),
                none(),
                false,
                true,
                "ctx:1",
                Some("ctx"),
            ),
            (
                none(),
                none(),
                none(),
                false,
                false,
                "127.0.0.1:9002",
                none(),
            ),
        ];
        for (row, (flag, var, key, named, there, expected, expected_key)) in
            table.into_iter().enumerate()
        {
            let given = Given {
                address: flag.map(address),
                key_file: None,
                address_variable: var.map(address),
                key_variable: key.map(secret),
                context_flag: named,
                certificate: false,
            };
            let found = there.then(|| Found {
                name: "prod".into(),
                address: address("ctx:1"),
                token: Some(secret("ctx")),
                tls: TlsFiles::default(),
            });
            let chosen = given.choose(found.as_ref());
            match (chosen, expected_key) {
                (Ok((to, Some(token))), Some(key)) => {
                    assert_eq!((to, token.as_str()), (address(expected), key), "row {row}");
                }
                (Err(_), None) => {}
                (found, _) => panic!("row {row}: {:?}", found.map(|(to, _)| to)),
            }
        }
    }
}
