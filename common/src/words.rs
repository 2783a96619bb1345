//! One macro: a `#[repr(C)]` struct of equal integers that can also be seen as an array of them.

/// Declares a plain struct of `$int` fields with `words()` and `from_words()`, so that user space hands it to the
/// loader, or reads it from a map, as an array and needs no `unsafe`.
macro_rules! words {
    ($(#[$meta:meta])* pub struct $name:ident : $int:ty { $($(#[$fmeta:meta])* $field:ident,)+ }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$fmeta])* pub $field: $int,)+ }

        impl $name {
            /// Number of fields.
            pub const LEN: usize = size_of::<Self>() / size_of::<$int>();
            /// Every field set to `value`.
            pub const fn filled(value: $int) -> Self {
                Self { $($field: value,)+ }
            }
            /// The fields in order.
            pub const fn words(&self) -> [$int; Self::LEN] {
                [$(self.$field,)+]
            }
            /// The reverse of [`Self::words`].
            pub const fn from_words(words: [$int; Self::LEN]) -> Self {
                let [$($field,)+] = words;
                Self { $($field,)+ }
            }
        }
    };
}

pub(crate) use words;
