//! Measurements of the library, one file each; the library of this package is empty.
