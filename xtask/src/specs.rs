//! `cargo xtask specs`: the committed specs with the images that they name, so that they can be
//! translated by hand. The images are sparse stand-ins without an operating system.

use std::fs;
use std::path::PathBuf;

use clap::Args as ClapArgs;
use stratavm::Store;

use crate::exec::Error;
use crate::workspace;

#[path = "../../tests/common/fixtures.rs"]
mod fixtures;

/// Where they go.
#[derive(ClapArgs)]
pub(crate) struct Args {
    /// The folder to fill [default: specs, in the build folder].
    dir: Option<PathBuf>,
}

/// Fills the folder and says how to go on.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let dir = args
        .dir
        .clone()
        .unwrap_or_else(|| workspace::target().join("specs"));
    fill(&dir).map_err(|error| Error::new(format!("{}: {error}", dir.display())))?;
    let (dir, home) = (dir.display(), dir.join("home"));
    println!("the specs and their images are in {dir}; images given by digest in {dir}/home");
    println!(
        "try: cargo run -p stratavm-launcher -- translate {dir}/finance.toml --product all \
         --out {dir}/plans --home {}",
        home.display()
    );
    Ok(())
}

fn fill(dir: &PathBuf) -> Result<(), Box<dyn std::error::Error>> {
    fs::create_dir_all(dir)?;
    let store = Store::open(dir.join("home"))?;
    for (name, spec) in fixtures::specs() {
        fixtures::make_images(&spec, dir, store.images())?;
        let file = format!("{name}.toml");
        fs::copy(fixtures::spec_folder().join(&file), dir.join(&file))?;
    }
    Ok(())
}
