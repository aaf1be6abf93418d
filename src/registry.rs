//! The set of products that a program works with, as a value.
//!
//! `stratavm` itself knows no product: the `stratavm-builtin` crate makes a registry of the
//! backends that come with the project, and a program adds its own.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::hypervisor::{Hypervisor, Product};

/// Backends by product, in the order in which they were added.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    backends: Vec<Arc<dyn Hypervisor>>,
}

impl Registry {
    /// A registry without any backend.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a backend; one of the same product is replaced.
    #[must_use]
    pub fn with(mut self, backend: impl Hypervisor + 'static) -> Self {
        let backend: Arc<dyn Hypervisor> = Arc::new(backend);
        match self
            .backends
            .iter_mut()
            .find(|known| known.product() == backend.product())
        {
            Some(known) => *known = backend,
            None => self.backends.push(backend),
        }
        self
    }

    /// The backend of `product`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], naming those there are.
    pub fn get(&self, product: &Product) -> Result<&Arc<dyn Hypervisor>> {
        self.iter()
            .find(|backend| backend.product() == product)
            .ok_or_else(|| {
                let known: Vec<_> = self
                    .iter()
                    .map(|backend| backend.product().as_str())
                    .collect();
                Error::new(
                    ErrorKind::NotFound,
                    format!(
                        "there is no product {product:?}",
                        product = product.as_str()
                    ),
                )
                .next(format!("use one of: {}", known.join(", ")))
            })
    }

    /// All backends, in the order in which they were added.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<dyn Hypervisor>> {
        self.backends.iter()
    }
}

impl<'a> IntoIterator for &'a Registry {
    type Item = &'a Arc<dyn Hypervisor>;
    type IntoIter = std::slice::Iter<'a, Arc<dyn Hypervisor>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
