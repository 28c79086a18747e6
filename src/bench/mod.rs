//! What benches, examples and tests reach into: no part of the interface, may
//! change any day.

mod attention;
mod multiplication;
pub mod synthesize;

pub use attention::{Attention, Heads};
pub use multiplication::Multiplication;
