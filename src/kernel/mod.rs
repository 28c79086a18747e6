//! Where formats and instruction sets meet: the arithmetic of the transformer.
//!
//! Every kernel is one [`Task`](crate::simd::Task), generic over the
//! instruction set. What it computes for a row depends on that row alone, in
//! one fixed order of f32 operations: the same bits for any batch, any number
//! of threads and any instruction set.

pub(crate) mod act;
pub(crate) mod attention;
pub(crate) mod conv;
pub(crate) mod math;
pub(crate) mod matmul;
pub(crate) mod matrix;
pub(crate) mod norm;
pub(crate) mod pool;
pub(crate) mod recurrence;
pub(crate) mod rope;
pub(crate) mod route;
pub(crate) mod threads;
