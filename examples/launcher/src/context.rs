//! What the commands share: the store, the products, progress.

use std::path::PathBuf;
use std::sync::Arc;

use stratavm::capability::Lifetime;
use stratavm::spec::Name;
use stratavm::{
    Ctx, Error, ErrorKind, Hypervisor, Product, Registry, Result, Store, Vm, block_on,
    machine::Machine,
};

use crate::cli::Cli;
use crate::interrupt;
use crate::output::Form;
use crate::progress;

/// What a command works with.
pub(crate) struct Context {
    home: Option<PathBuf>,
    pub(crate) registry: Registry,
    /// For short work: a signal ends the program at once.
    pub(crate) ctx: Ctx,
    pub(crate) form: Form,
}

impl Context {
    pub(crate) fn new(cli: &Cli) -> Self {
        Self {
            home: cli.home.clone(),
            registry: stratavm_builtin::products(),
            ctx: progress::ctx(cli.form()),
            form: cli.form(),
        }
    }

    /// For long work, which a signal cancels.
    pub(crate) fn cancellable(&self) -> &Ctx {
        interrupt::cancel(self.ctx.cancel_token().clone());
        &self.ctx
    }

    /// The store: `--home`, STRATAVM_HOME, or the platform's data folder.
    pub(crate) fn store(&self) -> Result<Store> {
        match &self.home {
            Some(home) => Store::open(home),
            None => Store::open(default_home()?),
        }
    }

    /// The store if the user named one: `translate` works without.
    pub(crate) fn named_store(&self) -> Result<Option<Store>> {
        self.home.as_ref().map(Store::open).transpose()
    }

    /// The machine. If it lost its supervisor its product is asked first what has become of it;
    /// where that does not help, changing the machine says why it cannot be.
    pub(crate) fn machine(&self, name: &Name) -> Result<Machine> {
        let machine = self.store()?.machine(name)?;
        let run = machine.record()?.run;
        if run.is_some_and(|run| run.lifetime == Lifetime::Independent) {
            let asked = Vm::open(machine.store(), name, &self.registry)
                .and_then(|vm| block_on(vm.recover(&self.ctx)));
            if let Err(error) = asked {
                tracing::warn!(machine = %name, %error, "its product was asked in vain");
            }
        }
        Ok(machine)
    }

    pub(crate) fn vm(&self, name: &Name) -> Result<Vm> {
        Vm::open(&self.store()?, name, &self.registry)
    }

    pub(crate) fn backend(&self, product: &str) -> Result<Arc<dyn Hypervisor>> {
        Ok(Arc::clone(self.registry.get(&Product::named(product)?)?))
    }
}

fn default_home() -> Result<PathBuf> {
    let dirs = directories::ProjectDirs::from("", "", "stratavm").ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "this user has no home folder")
            .next("say --home DIR, or set STRATAVM_HOME")
    })?;
    Ok(dirs.data_dir().to_owned())
}
