//! A progress bar for long work, on stderr and only for people.

use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use stratavm::{Ctx, Phase, Progress};

use crate::output::Form;

/// A context that shows progress; nothing is drawn where stderr is no terminal.
pub(crate) fn ctx(form: Form) -> Ctx {
    if form == Form::Json {
        return Ctx::none();
    }
    let current: Mutex<Option<(Phase, ProgressBar)>> = Mutex::new(None);
    Ctx::none().with_progress(move |progress| {
        let Ok(mut current) = current.lock() else {
            return;
        };
        let bar = match current.as_ref() {
            Some((phase, bar)) if *phase == progress.phase => bar.clone(),
            _ => {
                let bar = bar(progress);
                *current = Some((progress.phase, bar.clone()));
                bar
            }
        };
        bar.set_position(progress.done);
        if progress.total == Some(progress.done) {
            bar.finish_and_clear();
        }
    })
}

fn bar(progress: &Progress) -> ProgressBar {
    let bar = match progress.total {
        Some(total) => ProgressBar::new(total),
        None => ProgressBar::new_spinner(),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
    let template = "{msg:>10} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(match progress.phase {
        Phase::Hash => "hashing",
        Phase::Copy => "copying",
        Phase::Write => "writing",
        Phase::Verify => "verifying",
        Phase::Convert => "converting",
        Phase::Check => "checking",
        Phase::Compare => "comparing",
        _ => "working",
    });
    bar
}
