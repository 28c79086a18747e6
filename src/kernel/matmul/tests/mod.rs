//! Every tier against the scalar reference, bit for bit.

mod panels;
mod products;
