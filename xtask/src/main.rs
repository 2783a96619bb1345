//! Builds the agent: `cargo xtask build`.

mod build;

fn main() -> anyhow::Result<()> {
    println!("{}", build::build(std::env::args().any(|arg| arg == "--release"))?.display());
    Ok(())
}
