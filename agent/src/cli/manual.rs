//! The definition of the command line → its manual pages and completions.

use std::io::Write;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Failure;
use super::arguments::Arguments;

/// What a manual page says beyond the options.
const MORE: &str = "\
.SH CONFIGURATION
.B spoor config default
prints every setting with its default and its meaning; every setting is also an environment variable:
.I export.otlp.endpoint
is
.BR SPOOR_EXPORT_OTLP_ENDPOINT .
The
.B OTEL_EXPORTER_OTLP_*
variables of OpenTelemetry work too.
.B spoor config reference
prints the same as a page.
.SH SIGNALS
.TP
.BR SIGINT , SIGTERM
Deliver what was captured, then end.
.TP
.B SIGHUP
Read the configuration again. A bad one is refused and logged, and the old one stays in force.
.SH FILES
.TP
.I /etc/spoor/spoor.yaml
The configuration of the service.
.TP
.I /var/lib/spoor/spool
Spans that wait while the back end is away, in the service's configuration; elsewhere
.B export.spool.directory
names it, and without it there is none.
.TP
.I /var/lib/spoor/spool/learned
What was learned of connections and processes, for the next run: in
.BR state.directory ,
else beside the spool, else in
.IR /var/lib/spoor .
.SH EXIT STATUS
.TP
.B 0
Done.
.TP
.B 1
Failed; of
.B spoor replay
also when a span did not reach the back end, of
.B spoor doctor
when something that is needed is missing.
.TP
.B 2
Wrong usage or configuration.
.TP
.B 3, 4
Of
.B spoor order
only: nobody named the order; it needs somebody, with
.BR \\-\\-check .
.SH SEE ALSO
The pages below
.IR /usr/share/doc/spoor :
.IR README.md ,
.I docs/configuration.md
for every setting,
.I docs/troubleshooting.md
for when spans are missing,
.I docs/joining.md
for how causes are found.
";

pub(super) fn completions(shell: Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "spoor", &mut script);
    // A reader that has seen enough is no failure.
    let _ = std::io::stdout().write_all(&script);
}

/// Prints the page of `spoor`, or of one of its commands.
pub(super) fn print(name: Option<&str>) -> Result<(), Failure> {
    let page = page(name)
        .ok_or_else(|| Failure::Usage(format!("there is no command `{}`", name.unwrap_or_default())))?;
    let _ = std::io::stdout().write_all(&page);
    Ok(())
}

/// Writes the pages of `spoor` and of all its commands.
pub(super) fn pages(directory: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(directory).map_err(Failure::Manual)?;
    let all = Arguments::command();
    let commands = all.get_subcommands().map(|command| command.get_name());
    for name in std::iter::once(None).chain(commands.map(Some)) {
        let file = name.map_or("spoor.1".to_owned(), |name| format!("spoor-{name}.1"));
        std::fs::write(directory.join(file), page(name).unwrap_or_default()).map_err(Failure::Manual)?;
    }
    Ok(())
}

/// `None`: there is no such command.
fn page(name: Option<&str>) -> Option<Vec<u8>> {
    let mut all = Arguments::command();
    all.build();
    let command = match name {
        None => all,
        Some(name) => {
            let found = all.get_subcommands().find(|command| command.get_name() == name).cloned()?;
            // The page of `spoor run` is spoor-run(1).
            let title: &'static str = Box::leak(format!("spoor-{name}").into_boxed_str());
            found.name(title)
        }
    };
    let mut page = Vec::new();
    // Writing to memory does not fail.
    let _ = clap_mangen::Man::new(command).render(&mut page);
    page.extend_from_slice(MORE.as_bytes());
    Some(page)
}
