//! Enumerations that a spec writes as text: one macro, so that their texts are said once.
//!
//! The types themselves are in the module of their table.

/// A value out of a few, each with the text that a spec writes for it.
pub(crate) trait Choice: Copy + 'static {
    /// Every value, in the order of the documentation.
    const ALL: &'static [Self];

    /// The value as a spec writes it.
    fn text(self) -> &'static str;
}

/// Defines such an enumeration. A variant that is marked `= default` is taken where the key is
/// missing; without one the key must be given.
macro_rules! choice {
    (
        $(#[$outer:meta])*
        $name:ident { $($(@$default:ident)? $variant:ident = $text:literal $doc:literal),* $(,)? }
    ) => {
        $(#[$outer])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize, schemars::JsonSchema,
        )]
        #[non_exhaustive]
        pub enum $name {
            $(#[doc = $doc] #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: [Self; [$($text),*].len()] = [$(Self::$variant),*];

            /// The value as a spec writes it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        $($crate::spec::choice::choice!(@default $name $($default)? $variant);)*

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::spec::choice::Choice for $name {
            const ALL: &'static [Self] = &Self::ALL;

            fn text(self) -> &'static str {
                self.as_str()
            }
        }
    };
    (@default $name:ident default $variant:ident) => {
        impl Default for $name {
            fn default() -> Self {
                Self::$variant
            }
        }
    };
    (@default $name:ident $variant:ident) => {};
}

pub(crate) use choice;
