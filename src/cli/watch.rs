//! `--watch`: shows something again whenever it has changed, until Ctrl-C.

use std::time::Duration;

use crate::cli::Failure;
use crate::cli::output::{Form, Out};

const INTERVAL: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct WatchArg {
    /// Look again every 2 s and show what has changed, until Ctrl-C
    #[arg(long, short)]
    watch: bool,
}

/// Shows what `render` writes, once or for as long as somebody watches.
pub(super) async fn show(
    out: &mut Out,
    form: Form,
    watch: WatchArg,
    render: impl AsyncFn(&mut Out) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if !watch.watch {
        return render(out).await;
    }
    tokio::select! {
        ended = follow(out, form, render) => ended,
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    }
}

async fn follow(
    out: &mut Out,
    form: Form,
    render: impl AsyncFn(&mut Out) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut shown = String::new();
    let mut problem = None;
    loop {
        let (mut draft, page) = out.page();
        match render(&mut draft).await {
            Ok(()) => {
                problem = None;
                let now = page.text();
                if now != shown {
                    out.redraw(&shown, &now, form)?;
                    shown = now;
                }
            }
            Err(failure) if shown.is_empty() => return Err(failure),
            // A restart of the server must not end a watch that lasts for hours; said once, not every 2 s.
            Err(failure) => {
                let text = failure.to_string();
                if problem.as_ref() != Some(&text) {
                    crate::cli::print_error(&format!("error: {text}"));
                    problem = Some(text);
                }
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
