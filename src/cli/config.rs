//! `keystile config`: checks a config file, shows what works of it, prints its schema.

mod key_limits;

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::clock::{Clock as _, SystemClock};
use crate::config::{self, Config, ConfigError, Loaded};
use crate::domain::text::{escape_json, printable_lines};
use crate::server::files;

/// `EX_CONFIG` of sysexits.h.
pub const EXIT_CONFIG: u8 = 78;
const EXIT_FAILED: u8 = 1;

#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ConfigCommand {
    /// Name every mistake at once, or say what the file switches on
    #[command(
        after_help = "Reads the keyrings, the TLS files and those for Redis that the configuration names as well, as `keystile serve`
would, and opens no port. The store is left alone.

Examples:
  keystile config check -c keystile.yaml
  keystile config check -c keystile.yaml --no-files"
    )]
    Check {
        #[command(flatten)]
        source: FileArg,
        /// Leave out the files, which may be on another machine
        #[arg(long)]
        no_files: bool,
    },
    /// Print the configuration as it works, defaults and environment included
    #[command(
        after_help = "Limits that were set at run time are in the store, and not here: `keystile limits explain TENANT` has both.

Examples:
  keystile config show -c keystile.yaml
  keystile config show --effective -c keystile.yaml"
    )]
    Show {
        #[command(flatten)]
        source: FileArg,
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t = Form::Yaml)]
        output: Form,
        /// Say where each value came from
        #[arg(long)]
        sources: bool,
        /// The same, and which limits on keys follow for each tenant
        #[arg(long)]
        effective: bool,
    },
    /// Print the JSON Schema of the file
    Schema {
        /// Print docs/CONFIGURATION.md instead
        #[arg(long)]
        markdown: bool,
    },
}

#[derive(Debug, clap::Args)]
struct FileArg {
    /// Config file; without it, defaults and the environment alone
    #[arg(short, long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Form {
    Yaml,
    Json,
}

/// Runs the command on the process's own environment and output.
pub fn run(args: &ConfigArgs) -> ExitCode {
    let (out, err) = (io::stdout(), io::stderr());
    match run_with(
        args,
        config::environment(),
        &mut out.lock(),
        &mut err.lock(),
    ) {
        Ok(code) => ExitCode::from(code),
        // A reader that has seen enough, such as `head`, is no failure of ours.
        Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(EXIT_FAILED),
    }
}

fn run_with(
    args: &ConfigArgs,
    environment: impl Iterator<Item = (String, String)>,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<u8> {
    let source = match &args.command {
        ConfigCommand::Schema { markdown } => return schema(*markdown, out).map(|()| 0),
        ConfigCommand::Check { source, .. } | ConfigCommand::Show { source, .. } => source,
    };
    let loaded = match Config::load(source.config.as_deref(), environment) {
        Ok(loaded) => loaded,
        Err(wrong) => return refuse(&wrong, err).map(|()| EXIT_CONFIG),
    };
    if let Some(exposure) = &loaded.exposure {
        let exposure = printable_lines(&exposure.to_string());
        writeln!(
            err,
            "warning: the configuration file is not safe: {exposure}"
        )?;
    }
    match &args.command {
        ConfigCommand::Show {
            output,
            effective: true,
            ..
        } => key_limits::show(&loaded, *output, out).map(|()| 0),
        ConfigCommand::Show {
            output, sources, ..
        } => show(&loaded, *output, *sources, out).map(|()| 0),
        ConfigCommand::Check {
            no_files: false, ..
        } => {
            let mistakes = files::mistakes(&loaded.config, SystemClock.now());
            match mistakes.as_slice() {
                [] => check(source, &loaded.config, out).map(|()| 0),
                mistakes => refuse_files(source, mistakes, err).map(|()| EXIT_CONFIG),
            }
        }
        ConfigCommand::Check { no_files: true, .. } | ConfigCommand::Schema { .. } => {
            check(source, &loaded.config, out).map(|()| 0)
        }
    }
}

/// The error and its causes; for mistakes, one line each.
fn refuse(wrong: &ConfigError, err: &mut impl Write) -> io::Result<()> {
    writeln!(err, "{}", printable_lines(&wrong.to_string()))?;
    let mut cause = std::error::Error::source(wrong);
    while let Some(inner) = cause {
        writeln!(err, "  because: {}", printable_lines(&inner.to_string()))?;
        cause = inner.source();
    }
    Ok(())
}

impl FileArg {
    fn name(&self) -> Cow<'_, str> {
        match &self.config {
            Some(path) => path.to_string_lossy(),
            None => "the environment".into(),
        }
    }
}

fn check(source: &FileArg, config: &Config, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}: ok", source.name())?;
    writeln!(out, "{}", config.summary())
}

fn refuse_files(source: &FileArg, mistakes: &[String], err: &mut impl Write) -> io::Result<()> {
    let name = source.name();
    let count = mistakes.len();
    let plural = if count == 1 { "" } else { "s" };
    mistakes
        .iter()
        .try_for_each(|mistake| writeln!(err, "{}", printable_lines(mistake)))?;
    writeln!(
        err,
        "{count} mistake{plural} in files that {name} names: correct the above and try again, or leave them out with --no-files"
    )
}

fn show(loaded: &Loaded, form: Form, sources: bool, out: &mut impl Write) -> io::Result<()> {
    let effective = &loaded.effective;
    match (form, sources) {
        (Form::Yaml, _) => write!(out, "{}", effective.to_yaml(sources)),
        (Form::Json, false) => writeln!(out, "{}", escape_json(&format!("{:#}", effective.value))),
        (Form::Json, true) => writeln!(
            out,
            "{}",
            escape_json(&format!("{:#}", with_sources(loaded)))
        ),
    }
}

fn with_sources(loaded: &Loaded) -> serde_json::Value {
    let effective = &loaded.effective;
    let origins = effective.sources.iter();
    let origins = origins.map(|(path, source)| (path.clone(), source.to_string().into()));
    let origins: serde_json::Map<String, serde_json::Value> = origins.collect();
    serde_json::json!({"config": effective.value, "sources": origins})
}

fn schema(markdown: bool, out: &mut impl Write) -> io::Result<()> {
    match markdown {
        true => write!(out, "{}", config::markdown()),
        false => writeln!(out, "{:#}", config::json_schema()),
    }
}

#[cfg(test)]
mod tests;
