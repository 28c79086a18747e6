//! What the tests, benches and examples of this repository reach into. It is no part of
//! the interface and may change in any release.

pub use crate::bench::{Attention, Heads, Multiplication, synthesize};
pub use crate::engine::hidden_states;
pub use crate::session::feed_together;

/// What this machine can do at best.
pub mod machine {
    pub use crate::machine::*;
}

/// Block formats, and products with one row of each.
pub mod quant {
    pub use crate::quant::*;
}
