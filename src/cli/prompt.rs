//! Asking people: a secret without an echo, a word that shows they mean it.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use anyhow::anyhow;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::cli::{Failure, credential, print_hint};
use crate::crypto::token::TOKEN_LEN_MAX;
use crate::file_access;
use crate::oidc::JWT_LEN_MAX;

/// What a terminal sends for Ctrl-C, Ctrl-D and the erase keys while it does not interpret them.
const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
/// Bytes of a file beside its credential: a byte order mark and the end of a line.
const BEYOND_MAX: usize = 5;
const ERASE: [u8; 2] = [0x08, 0x7f];

/// Goes on only when somebody types `word`, or `yes` says that nobody has to be asked.
pub(super) fn confirm(what: &str, word: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::Usage(anyhow!(
            "this {what}, and that cannot be undone\nhint: add --yes to do it without being asked"
        )));
    }
    write!(
        io::stderr(),
        "This {what}, for good. Type {word} to go on: "
    )?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    if line.trim() == word {
        Ok(())
    } else {
        Err(Failure::failed(anyhow!("nothing was done")))
    }
}

/// A token from a file, or from standard input when that is `-`.
pub(super) fn token_from(path: &Path) -> Result<Zeroizing<String>, Failure> {
    line_from(path, TOKEN_LEN_MAX)
}

/// The same of what we call with, which may be a JWT. Of a file that others can reach it warns, as it is our own.
pub(super) fn credential_from(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let file = std::fs::File::open(path);
    if let Ok(Some(exposure)) = file.and_then(|file| file_access::exposure_of_secret(path, &file)) {
        print_hint(&exposure.to_string());
    }
    line_from(path, JWT_LEN_MAX)
}

fn line_from(path: &Path, len_max: usize) -> Result<Zeroizing<String>, Failure> {
    let (shown, read) = if path == Path::new("-") {
        let shown = "standard input".to_owned();
        (shown, read_bounded(io::stdin().lock(), len_max))
    } else {
        let shown = path.display().to_string();
        let file = std::fs::File::open(path);
        (shown, file.and_then(|file| read_bounded(file, len_max)))
    };
    let bytes = read.map_err(|error| {
        let error = anyhow::Error::new(error);
        Failure::Failed(error.context(format!("cannot read the API key from {shown}")))
    })?;
    one_line(&bytes, len_max).map_err(|problem| Failure::failed(anyhow!("{shown} {problem}")))
}

/// As much as says whether it is a credential of at most that length: a byte order mark and a line end may be around it.
fn read_bounded(from: impl io::Read, len_max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let limit = len_max + BEYOND_MAX + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit));
    from.take(u64::try_from(limit).unwrap_or(u64::MAX))
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The one line of what was read, or what is wrong with it.
fn one_line(bytes: &[u8], len_max: usize) -> Result<Zeroizing<String>, String> {
    let text = file_access::utf8(bytes).map_err(|problem| problem.to_string())?;
    let line = text.trim();
    if bytes.len() > len_max + BEYOND_MAX || line.is_empty() || line.contains(['\n', '\r']) {
        return Err(format!(
            "does not hold an API key: it must have one line of at most {len_max} characters"
        ));
    }
    match credential::mistake(line) {
        Some(problem) => Err(problem.to_owned()),
        None => Ok(Zeroizing::new(line.to_owned())),
    }
}

/// A credential that somebody types or pastes, without showing it; from a pipe, its first line.
pub(super) fn secret(prompt: &str) -> Result<Zeroizing<String>, Failure> {
    if !io::stdin().is_terminal() {
        return credential_from(Path::new("-"));
    }
    write!(io::stderr(), "{prompt}")?;
    let echo_off = EchoOff::new()?;
    let typed = EchoOff::line();
    drop(echo_off);
    writeln!(io::stderr())?;
    match typed? {
        Some(line) if !line.is_empty() => Ok(line),
        Some(_) => Err(Failure::failed(anyhow!("no API key was given"))),
        None => Err(Failure::failed(anyhow!("interrupted"))),
    }
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct EchoOff(Termios);

impl EchoOff {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        // Signals off too: a Ctrl-C that ended us here would leave the terminal mute.
        quiet
            .local_flags
            .remove(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG);
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &quiet)?;
        Ok(Self(before))
    }

    /// What is typed up to the end of the line; none if it is given up.
    fn line() -> io::Result<Option<Zeroizing<String>>> {
        let mut typed = Zeroizing::new(Vec::with_capacity(JWT_LEN_MAX));
        let mut input = io::stdin().lock();
        let mut byte = [0];
        while typed.len() < JWT_LEN_MAX {
            if input.read(&mut byte)? == 0 {
                break;
            }
            match byte[0] {
                INTERRUPT => return Ok(None),
                b'\n' | b'\r' | END => break,
                erase if ERASE.contains(&erase) => drop(typed.pop()),
                other => typed.push(other),
            }
        }
        let text = std::str::from_utf8(&typed).unwrap_or_default();
        Ok(Some(Zeroizing::new(text.trim().to_owned())))
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        // There is nothing more to be done about a terminal that has gone.
        tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0).ok();
    }
}
