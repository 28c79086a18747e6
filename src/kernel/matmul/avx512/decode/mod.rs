//! What formats supply.

mod codes;
mod lanes;
mod scales;

pub(super) use codes::Put;
pub(in crate::kernel::matmul) use codes::SmallCodes;
pub(super) use lanes::Lanes;
pub(in crate::kernel::matmul) use scales::{GROUP, Head16, Head32, SuperScales, scale_word};
