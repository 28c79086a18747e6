//! The router: every route in one table, and the guards before it.
