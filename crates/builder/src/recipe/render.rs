//! Problems as text: the lines of the recipe with carets, by miette.

use super::problem::{FoundProblem, Problem, RecipeErrors};
use super::sources::Sources;
use crate::error::{Exit, Failure};
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report};
use std::io::IsTerminal;

impl From<RecipeErrors> for Failure {
    fn from(e: RecipeErrors) -> Self {
        let mut message = e.to_string();
        if let RecipeErrors::Problems { sources, problems, .. } = &e {
            message.push('\n');
            message.push_str(&render_found(sources, problems));
        }
        Failure { exit: Exit::Usage, help: e.help(), message }
    }
}

/// Drawn lines on a terminal, plain ASCII elsewhere. No colours: whatever is printed may hold no escape sequences, so that
/// none of a recipe's own text reaches a terminal.
fn theme() -> GraphicalTheme {
    if std::io::stderr().is_terminal() { GraphicalTheme::unicode_nocolor() } else { GraphicalTheme::none() }
}

/// All problems, as standard error shows them best.
pub fn render_found(sources: &Sources, problems: &[FoundProblem]) -> String {
    render_problems(sources, problems, theme())
}

/// All problems, one below the other.
pub fn render_problems(sources: &Sources, problems: &[FoundProblem], theme: GraphicalTheme) -> String {
    let handler =
        GraphicalReportHandler::new_themed(theme).with_wrap_lines(false).with_width(120).with_context_lines(1);
    let mut out = String::new();
    let masked: Vec<String> = (0..sources.files.len()).map(|file| without_keys(&sources.files[file].text)).collect();
    for found in problems {
        let report = report(sources, found, &masked[found.at.file]);
        if handler.render_report(&mut out, report.as_ref()).is_err() {
            // A `String` takes everything, so miette could not show this span.
            out.push_str(&format!("{}: {}\n", sources.origin(found.at), found.problem));
        }
    }
    out.truncate(out.trim_end().len());
    without_secrets(&out)
}

/// Text for a terminal and for logs of builds, without the lines that hold a secret: one may stand beside what is wrong.
fn without_secrets(text: &str) -> String {
    let secrets = crate::secrets::in_file("", text.as_bytes(), crate::secrets::Author::Own);
    let lines = text.lines().zip(1..).map(|(line, number)| match secrets.iter().any(|secret| secret.line == number) {
        true => "  (this line holds a secret and is not shown)",
        false => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The same length with asterisks in place of private keys, whose later lines say nothing by themselves (RFC 7468).
fn without_keys(text: &str) -> String {
    let mut inside = false;
    let mask = |line: &str| {
        line.chars().map(|c| if c == '\n' { "\n".into() } else { "*".repeat(c.len_utf8()) }).collect::<String>()
    };
    let lines = text.split_inclusive('\n').map(|line| {
        inside |= line.contains("PRIVATE KEY") && line.contains("-----BEGIN");
        let shown = if inside { mask(line) } else { line.to_string() };
        inside &= !line.contains("-----END");
        shown
    });
    lines.collect()
}

/// `masked`: what is shown of the file.
fn report(sources: &Sources, found: &FoundProblem, masked: &str) -> Report {
    let file = sources.file(found.at);
    let (start, end) = visible(&file.text, found.at.start, found.at.end);
    if let Problem::Secret { .. } = found.problem {
        // The line itself would bring the secret into logs of builds.
        let column = file.text[..start].chars().rev().take_while(|c| *c != '\n').count() + 1;
        let message = format!("{} [{}:{column}]", found.problem, sources.origin(found.at));
        return Report::new(MietteDiagnostic::new(message).with_help(found.problem.help()));
    }
    let diagnostic = MietteDiagnostic::new(found.problem.to_string())
        .with_help(found.problem.help())
        .with_label(LabeledSpan::underline(start..end));
    Report::new(diagnostic).with_source_code(NamedSource::new(file.shown.as_ref(), masked.to_string()))
}

/// The part of the span on its first line: a long table or text would fill the screen.
fn visible(text: &str, start: usize, end: usize) -> (usize, usize) {
    let start = (0..=start.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    let line_end = text[start..].find('\n').map_or(text.len(), |i| start + i);
    let end = end.min(line_end).max(start);
    let end = (end..=text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or(text.len());
    (start, end)
}
