//! `with_*` methods of option structs, which are `#[non_exhaustive]`: a struct that
//! cannot be written as a literal elsewhere can get fields in a later version.

/// Declares `with_field` for each field; values are converted with [`Into`].
macro_rules! setters {
    ($($with:ident($field:ident: $type:ty);)*) => {$(
        #[doc = concat!(
            "These options with another [`", stringify!($field), "`](Self::", stringify!($field), ")."
        )]
        #[must_use]
        pub fn $with(mut self, $field: $type) -> Self {
            self.$field = Into::into($field);
            self
        }
    )*};
}
